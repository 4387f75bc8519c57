//! Interfaces that runtimes of other languages import, and that no plugin may use: linked to functions that
//! fail when they are called, so that what is imported and never called does no harm.

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};
use wasmtime_wasi::p2::bindings::io;

use super::host::Host;

/// What a refused interface calls its own resources. There are never any.
struct Nothing;

/// Whether all functions of the interface are refused.
pub(super) fn is_refused(import: &str) -> bool {
    import.starts_with("wasi:http/")
}

/// Links what of the component's imports is refused.
pub(super) fn link(
    linker: &mut Linker<Host>,
    engine: &Engine,
    component: &Component,
) -> wasmtime::Result<()> {
    let ty = component.component_type();
    let instances = || {
        ty.imports(engine)
            .filter_map(|(name, import)| match import.ty {
                ComponentItem::ComponentInstance(instance) => Some((name, instance)),
                _ => None,
            })
    };
    // A refused interface also names streams and the like, which are linked by others already.
    let mut linked = Vec::new();
    for (_, instance) in instances().filter(|(name, _)| name.starts_with("wasi:io/")) {
        for (name, export) in instance.exports(engine) {
            if let (ComponentItem::Resource(own), Some(host)) = (export.ty, resource_of_io(name)) {
                linked.push((own, host));
            }
        }
    }
    for (interface, instance) in instances().filter(|(name, _)| is_refused(name)) {
        let mut linker = linker.instance(interface)?;
        for (name, export) in instance.exports(engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => refuse(&mut linker, interface, name)?,
                ComponentItem::Resource(own) => {
                    let known = linked.iter().find(|(other, _)| *other == own);
                    let nothing = ResourceType::host::<Nothing>();
                    let host = known.map_or(nothing, |(_, host)| *host);
                    linker.resource(name, host, |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn refuse(
    linker: &mut LinkerInstance<'_, Host>,
    interface: &str,
    function: &str,
) -> wasmtime::Result<()> {
    let message = format!(
        "called {interface}#{function}, and plugins have no network; return what shall be sent, and name its destination in the manifest"
    );
    linker.func_new(function, move |_, _, _, _| {
        Err(wasmtime::Error::msg(message.clone()))
    })
}

/// The resources of `wasi:io`, by their names.
fn resource_of_io(name: &str) -> Option<ResourceType> {
    Some(match name {
        "error" => ResourceType::host::<io::error::Error>(),
        "pollable" => ResourceType::host::<io::poll::Pollable>(),
        "input-stream" => ResourceType::host::<io::streams::InputStream>(),
        "output-stream" => ResourceType::host::<io::streams::OutputStream>(),
        _ => return None,
    })
}
