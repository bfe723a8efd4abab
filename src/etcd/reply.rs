//! What etcd says when it is asked to change its members, by the words of its errors: the same in 3.4 to 3.7, whatever
//! code they come with.

/// An answer that is not a plain yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Somebody has this peer URL already, perhaps by an earlier attempt: the list tells.
    Listed,
    /// Another learner comes first.
    TooManyLearners,
    /// Voters were not all connected for the last five seconds, as after every promotion.
    Unhealthy,
    /// The learner lags.
    NotInSync,
    /// It votes already.
    NotLearner,
    /// There is no such member.
    NotFound,
    /// With this change those that run would not be a majority.
    NotEnoughStarted,
    /// It was not refused, and may have happened or happen yet.
    Unknown(String),
}

impl Reply {
    /// Reads an error.
    pub fn of(error: &str) -> Self {
        let known = [
            ("Peer URLs already exists", Reply::Listed),
            ("member ID already exist", Reply::Listed),
            ("too many learner members", Reply::TooManyLearners),
            ("unhealthy cluster", Reply::Unhealthy),
            ("in sync with leader", Reply::NotInSync),
            ("can only promote a learner member", Reply::NotLearner),
            ("member not found", Reply::NotFound),
            ("not enough started members", Reply::NotEnoughStarted),
        ];
        let found = known.into_iter().find(|(words, _)| error.contains(words));
        found.map_or_else(|| Reply::Unknown(error.to_owned()), |(_, reply)| reply)
    }
}
