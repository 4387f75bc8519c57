//! The role `scanning`: what there is on the node is shown to plugins, which judge it.

pub mod feed;
