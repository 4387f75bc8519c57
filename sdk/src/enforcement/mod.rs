//! The role `enforcement`: how the node is in, what should be changed out.

mod outline;
mod plan;
mod view;

pub(crate) use outline::Names;
pub use outline::{Outline, Rule, RuleId, Severity, WantId};
pub use plan::{Change, ModuleChange, Plan, UnitChange};
pub use view::{Entry, Kind, Module, Sysctl, Unit, View};

use crate::error::Result;
use crate::plugin::Plugin;

/// A plugin that keeps the node as it should be.
///
/// The host shows it how the node is, again and again, and carries out what comes back, or only reports
/// it. Asked about a node that is as it should be, the plugin plans nothing.
///
/// ```
/// use bulkhead_sdk::enforcement::{Rule, RuleId, View};
/// use bulkhead_sdk::{Enforcement, NoConfig, Outline, Plan, Plugin, Result};
///
/// #[derive(Default)]
/// struct Motd(Option<RuleId>);
///
/// impl Plugin for Motd {
///     type Config = NoConfig;
///     fn new(_: NoConfig) -> Result<Self> {
///         Ok(Motd::default())
///     }
/// }
///
/// impl Enforcement for Motd {
///     fn outline(&mut self) -> Result<Outline> {
///         let mut outline = Outline::new();
///         self.0 = Some(outline.rule(Rule::new("motd", "Visitors are greeted")));
///         outline.want_file("/etc/motd");
///         Ok(outline)
///     }
///
///     fn plan(&mut self, view: &View, plan: &mut Plan) -> Result<()> {
///         let Some(rule) = self.0 else { return Ok(()) };
///         if view.file("/etc/motd").and_then(|file| file.text()) == Some("Hello\n") {
///             plan.pass(rule, "");
///         } else {
///             plan.write_file("motd", "/etc/motd", "Hello\n").rule(rule).because("it greets nobody");
///             plan.fail(rule, "it greets nobody");
///         }
///         Ok(())
///     }
/// }
/// bulkhead_sdk::export!(Motd: Enforcement);
///
/// use bulkhead_sdk::testing::{Harness, Node};
/// let mut node = Node::new().file("/etc/motd", "Go away\n");
/// let mut plugin = Harness::<Motd>::new("{}")?;
/// let planned = plugin.plan(&node)?;
/// assert_eq!(planned.ids(), ["motd"]);
/// node.apply(&planned)?;
/// assert!(plugin.plan(&node)?.is_empty());
/// # Result::<()>::Ok(())
/// ```
pub trait Enforcement: Plugin {
    /// What the plugin wants to see, and the rules that it stands for. Asked once, before the first
    /// plan.
    ///
    /// ```
    /// use bulkhead_sdk::enforcement::{Outline, Rule};
    /// # use bulkhead_sdk::enforcement::{Plan, View};
    /// use bulkhead_sdk::{Enforcement, NoConfig, Plugin, Result, testing::{Harness, Node}};
    ///
    /// struct Motd;
    /// # impl Plugin for Motd {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Motd) }
    /// # }
    /// impl Enforcement for Motd {
    ///     fn outline(&mut self) -> Result<Outline> {
    ///         let mut outline = Outline::new();
    ///         outline.rule(Rule::new("motd", "Visitors are greeted"));
    ///         outline.want_file("/etc/motd");
    ///         Ok(outline)
    ///     }
    /// #   fn plan(&mut self, view: &View, _: &mut Plan) -> Result<()> {
    /// #       assert!(view.file("/etc/motd").is_some() && view.file("/etc/issue").is_none());
    /// #       Ok(())
    /// #   }
    /// }
    ///
    /// let planned = Harness::<Motd>::new("{}")?.plan(&Node::new().file("/etc/motd", "Hello\n"))?;
    /// assert_eq!(planned.rules()[0].id, "motd");
    /// # Result::<()>::Ok(())
    /// ```
    fn outline(&mut self) -> Result<Outline>;

    /// What should be changed on a node that is so, and what became of the rules.
    ///
    /// An error is reported, and nothing is changed. For one thing that cannot be told, say so with
    /// [`Plan::error`] instead, and plan the others.
    ///
    /// ```
    /// use bulkhead_sdk::enforcement::{Plan, View};
    /// # use bulkhead_sdk::enforcement::Outline;
    /// use bulkhead_sdk::{Enforcement, NoConfig, Plugin, Result, testing::{Harness, Node}};
    ///
    /// struct Forwarding;
    /// # impl Plugin for Forwarding {
    /// #     type Config = NoConfig;
    /// #     fn new(_: NoConfig) -> Result<Self> { Ok(Forwarding) }
    /// # }
    /// impl Enforcement for Forwarding {
    /// #   fn outline(&mut self) -> Result<Outline> {
    /// #       let mut outline = Outline::new();
    /// #       outline.want_sysctl("net.ipv4.ip_forward");
    /// #       Ok(outline)
    /// #   }
    ///     fn plan(&mut self, view: &View, plan: &mut Plan) -> Result<()> {
    ///         let forward = view.sysctl("net.ipv4.ip_forward").and_then(|it| it.value.as_deref());
    ///         if forward != Some("1") {
    ///             plan.set_sysctl("forward", "net.ipv4.ip_forward", "1", true, true);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut node = Node::new().sysctl("net.ipv4.ip_forward", "0");
    /// let planned = Harness::<Forwarding>::new("{}")?.plan(&node)?;
    /// node.apply(&planned)?;
    /// assert_eq!(node.setting("net.ipv4.ip_forward"), (Some("1"), Some("1")));
    /// # assert!(Harness::<Forwarding>::new("{}")?.plan(&node)?.is_empty());
    /// # Result::<()>::Ok(())
    /// ```
    fn plan(&mut self, view: &View, plan: &mut Plan) -> Result<()>;
}
