//! The users whose home a shard is, and their logins.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::identity::Identity;
use super::policy::SessionPolicy;
use crate::id::ConnId;

/// A connection that is somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The connection.
    pub conn: ConnId,
    /// Who it is.
    pub identity: Arc<Identity>,
}

impl Login {
    /// Whose it is.
    #[must_use]
    pub fn user(&self) -> &str {
        self.identity.user()
    }
}

/// An identity has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginRefused;

/// The users whose home a shard is.
#[derive(Debug, Default)]
pub struct Users {
    users: HashMap<ByUser, Logins>,
    logins: usize,
}

/// The identity of a user's first login stands for its name.
#[derive(Debug)]
struct ByUser(Arc<Identity>);

/// A user's logins, the oldest first. Mostly it is one, which needs no memory of its own.
#[derive(Debug)]
enum Logins {
    One(Login),
    More(Vec<Login>),
}

impl Users {
    /// Takes a connection in as its identity's. Says which others it displaces: they are logged in
    /// no more.
    ///
    /// # Errors
    /// [`LoginRefused`] as the policy has it.
    pub fn login(
        &mut self,
        login: Login,
        policy: SessionPolicy,
    ) -> Result<Vec<Login>, LoginRefused> {
        let mut displaced = Vec::new();
        if let Some((most, refuses)) = policy.others_max() {
            let is_other = |other: &&Login| {
                other.conn != login.conn && other.identity.is_same_as(&login.identity)
            };
            let others: Vec<Login> =
                self.of(login.user()).iter().filter(is_other).cloned().collect();
            let surplus = others.len().saturating_sub(most);
            if surplus > 0 && refuses {
                return Err(LoginRefused);
            }
            displaced.extend(others.into_iter().take(surplus));
        }
        for other in &displaced {
            self.logout(other);
        }
        self.add(login);
        Ok(displaced)
    }

    /// Ends a connection's login, if it is still there.
    pub fn logout(&mut self, login: &Login) -> bool {
        let Some(logins) = self.users.get_mut(login.user()) else { return false };
        let removed = logins.remove(login.conn);
        if logins.as_slice().is_empty() {
            self.users.remove(login.user());
        }
        self.logins -= usize::from(removed);
        removed
    }

    /// A user's logins, the oldest first.
    #[must_use]
    pub fn of(&self, user: &str) -> &[Login] {
        self.users.get(user).map_or(&[], Logins::as_slice)
    }

    /// Users that have logins.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody is logged in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Logins of all users.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.logins
    }

    fn add(&mut self, login: Login) {
        let Some(logins) = self.users.get_mut(login.user()) else {
            self.users.insert(ByUser(Arc::clone(&login.identity)), Logins::One(login));
            self.logins += 1;
            return;
        };
        self.logins += usize::from(logins.add(login));
    }
}

impl Logins {
    fn as_slice(&self) -> &[Login] {
        match self {
            Self::One(login) => std::slice::from_ref(login),
            Self::More(logins) => logins,
        }
    }

    /// Adds a connection's login behind the others; `false` if it was there.
    fn add(&mut self, login: Login) -> bool {
        if self.as_slice().iter().any(|known| known.conn == login.conn) {
            return false;
        }
        match self {
            Self::One(first) => *self = Self::More(vec![first.clone(), login]),
            Self::More(logins) => logins.push(login),
        }
        true
    }

    fn remove(&mut self, conn: ConnId) -> bool {
        match self {
            Self::One(login) if login.conn == conn => *self = Self::More(Vec::new()),
            Self::One(_) => return false,
            Self::More(logins) => {
                let before = logins.len();
                logins.retain(|login| login.conn != conn);
                return logins.len() < before;
            }
        }
        true
    }
}

impl Borrow<str> for ByUser {
    fn borrow(&self) -> &str {
        self.0.user()
    }
}

impl Hash for ByUser {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.user().hash(state);
    }
}

impl PartialEq for ByUser {
    fn eq(&self, other: &Self) -> bool {
        self.0.user() == other.0.user()
    }
}

impl Eq for ByUser {}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(slot: usize, parts: [&str; 4]) -> Login {
        Login { conn: ConnId::new(0, 0, slot), identity: Arc::new(Identity::of(parts).unwrap()) }
    }

    fn ann(slot: usize) -> Login {
        login(slot, ["ann", "app", "", ""])
    }

    fn slots(logins: &[Login]) -> Vec<usize> {
        logins.iter().map(|login| login.conn.slot()).collect()
    }

    #[test]
    fn each_policy_lets_in_and_out_whom_it_says() {
        use SessionPolicy::*;
        for (policy, displaced, left) in [
            (Allow, Some(vec![]), vec![0, 1, 2]),
            (AllowUpTo(3), Some(vec![]), vec![0, 1, 2]),
            (AllowUpTo(2), None, vec![0, 1]),
            (AllowLatest(3), Some(vec![]), vec![0, 1, 2]),
            (AllowLatest(2), Some(vec![0]), vec![1, 2]),
            (AllowLatest(1), Some(vec![0, 1]), vec![2]),
            (Reject, None, vec![0, 1]),
            (Displace, Some(vec![0, 1]), vec![2]),
        ] {
            let mut users = Users::default();
            for slot in [0, 1] {
                users.login(ann(slot), Allow).unwrap();
            }
            let got = users.login(ann(2), policy).ok().map(|logins| slots(&logins));
            assert_eq!((got, slots(users.of("ann"))), (displaced, left.clone()), "{policy}");
            assert_eq!((users.logins(), users.len()), (left.len(), 1), "{policy}");
        }
    }

    #[test]
    fn only_the_same_identity_counts_and_all_of_a_users_are_listed() {
        let mut users = Users::default();
        users.login(ann(0), SessionPolicy::Displace).unwrap();
        let web = login(1, ["ann", "web", "", ""]);
        assert_eq!(users.login(web, SessionPolicy::Reject), Ok(vec![]));
        assert_eq!(users.login(login(2, ["bob", "", "", ""]), SessionPolicy::Reject), Ok(vec![]));
        assert_eq!(slots(users.of("ann")), [0, 1]);
        assert_eq!((users.len(), users.logins()), (2, 3));
    }

    #[test]
    fn a_late_logout_takes_nothing_from_who_came_after() {
        let mut users = Users::default();
        users.login(ann(0), SessionPolicy::Displace).unwrap();
        assert_eq!(slots(&users.login(ann(1), SessionPolicy::Displace).unwrap()), [0]);
        assert!(!users.logout(&ann(0)));
        assert_eq!(slots(users.of("ann")), [1]);
        assert!(users.logout(&ann(1)) && users.is_empty());
        assert_eq!(users.logins(), 0);
    }

    #[test]
    fn who_logs_in_again_is_there_once() {
        let mut users = Users::default();
        for policy in [SessionPolicy::Reject, SessionPolicy::Displace, SessionPolicy::Allow] {
            assert_eq!(users.login(ann(0), policy), Ok(vec![]));
        }
        assert_eq!((users.logins(), slots(users.of("ann"))), (1, vec![0]));
    }
}
