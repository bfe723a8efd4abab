//! Reports on a whole bundle, ours or kubeadm's: every certificate, how long it lives, and what is wrong with it.
