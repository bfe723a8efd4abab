//! TBD
/// systemd, through `systemctl` and `journalctl`.
#[derive(Debug, Clone, Copy)]
pub struct Systemd;

impl Systemd {
    /// Whether systemd runs this machine.
    pub fn is_running() -> bool {
        todo!()
    }
}
