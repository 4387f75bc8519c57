//! @NAME@: users who need no password.

use bulkhead_sdk::scanning::{Outline, Password, View};
use bulkhead_sdk::{Findings, NoConfig, Plugin, Result, Scanning};

struct @TYPE@;

impl Plugin for @TYPE@ {
    type Config = NoConfig;
    fn new(_: NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Scanning for @TYPE@ {
    fn outline(&mut self) -> Result<Outline> {
        let mut outline = Outline::new();
        outline.want_users();
        Ok(outline)
    }

    fn assess(&mut self, view: &View, out: &mut Findings) -> Result<()> {
        for user in view.users().iter().filter(|user| user.password == Password::Empty) {
            out.other(format!("user/{}", user.name), "open-door");
        }
        Ok(())
    }
}

bulkhead_sdk::export!(@TYPE@: Scanning);

#[cfg(test)]
mod tests {
    use bulkhead_sdk::scanning::Password;
    use bulkhead_sdk::testing::{Harness, Node};

    #[test]
    fn finds_users_without_a_password() -> bulkhead_sdk::Result<()> {
        let node = Node::new()
            .account("mallory", 1000, Password::Empty)
            .account("alice", 1001, Password::Set);
        let found = Harness::<super::@TYPE@>::new("{}")?.assess(&node)?;
        assert_eq!(found.subjects("open-door"), ["user/mallory"]);
        Ok(())
    }
}
