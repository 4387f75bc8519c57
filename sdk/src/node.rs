//! Facts about the node. Using them makes the component import them, and the manifest must then
//! grant `nodeFacts`.

use crate::host;

/// The node's facts by name, for example `node.name`, `os.id`, `kernel.release`, `arch`, `cpus`.
///
/// A call asks the host: ask once, in [`Plugin::new`](crate::Plugin::new), and keep the answer.
///
/// ```
/// # bulkhead_sdk::testing::set_facts(&[("node.name", "node-7")]);
/// let facts = bulkhead_sdk::node::facts();
/// assert_eq!(facts.get("node.name"), Some("node-7"));
/// ```
pub fn facts() -> Facts {
    Facts(host::node_facts())
}

/// What [`facts`] found.
///
/// ```
/// # bulkhead_sdk::testing::set_facts(&[("cpus", "4")]);
/// for (name, value) in bulkhead_sdk::node::facts().iter() {
///     println!("{name} = {value}");
/// }
/// # assert_eq!(bulkhead_sdk::node::facts().iter().collect::<Vec<_>>(), [("cpus", "4")]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts(Vec<(String, String)>);

impl Facts {
    /// The fact `name`, if the host knows it.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::node::Facts::default().get("arch"), None);
    /// ```
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// All facts.
    ///
    /// ```
    /// assert_eq!(bulkhead_sdk::node::Facts::default().iter().count(), 0);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
