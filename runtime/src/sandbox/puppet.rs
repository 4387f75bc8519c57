//! An instance whose functions are called by name, and whose questions to the host are answered by somebody else
//! than the node: a test, or a recording. Values are JSON as a tap tells them; see `tap`.

mod value;

use std::sync::Arc;

use serde_json::Value;
use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, Linker, Val};

use super::failure::{Cause, Failure};
use super::host::Host;
use super::instance::Instance;
use super::link::PACKAGE;

/// Who answers what a guest asks the host.
pub trait Answers: Send + Sync + 'static {
    /// The answer to `state.get`, for example. May block: nothing else runs in the meantime.
    ///
    /// # Errors
    /// If there is none; the guest's call ends with that.
    fn answer(&self, call: &str, arguments: Vec<Value>) -> Result<Value, String>;
}

/// What can be called by name.
const CALLS: [&str; 15] = [
    "lifecycle.describe",
    "lifecycle.init",
    "lifecycle.snapshot",
    "lifecycle.restore",
    "logs.start",
    "logs.process",
    "metrics.start",
    "metrics.collect",
    "enforcement.start",
    "enforcement.plan",
    "scanning.start",
    "scanning.begin",
    "scanning.scan",
    "scanning.end",
    "scanning.assess",
];

/// `logs.process` for `process` of `bulkhead:plugin/logs@0.1.1`.
fn short(interface: &str, function: &str) -> Option<String> {
    let interface = interface.strip_prefix(PACKAGE)?;
    let (interface, _) = interface.split_once('@')?;
    Some(format!("{interface}.{function}"))
}

/// The functions that a component exports, by their short names.
#[derive(Clone, Default)]
pub(super) struct Functions(Arc<Vec<(&'static str, ComponentExportIndex)>>);

impl Functions {
    pub(super) fn of(engine: &Engine, component: &Component) -> Self {
        let mut functions = Vec::new();
        for (interface, export) in component.component_type().exports(engine) {
            let ComponentItem::ComponentInstance(instance) = export.ty else {
                continue;
            };
            let Some(holder) = component.get_export_index(None, interface) else {
                continue;
            };
            for (function, _) in instance.exports(engine) {
                let name = short(interface, function);
                let known = CALLS.into_iter().find(|call| name.as_deref() == Some(call));
                let index = component.get_export_index(Some(&holder), function);
                if let (Some(known), Some(index)) = (known, index) {
                    functions.push((known, index));
                }
            }
        }
        Self(Arc::new(functions))
    }

    fn find(&self, call: &str) -> Option<(&'static str, ComponentExportIndex)> {
        self.0.iter().find(|(known, _)| *known == call).copied()
    }
}

impl Instance {
    /// Calls a function by its short name. With a time, the guest's clock stands still at it.
    ///
    /// # Errors
    /// Any failure of the call, and arguments that are not the function's.
    pub async fn call_by_name(
        &mut self,
        call: &str,
        arguments: &[Value],
        time: Option<u64>,
    ) -> Result<Value, Failure> {
        let broken = |why: String| Failure::new("call", Cause::BrokenPromise, why);
        let (name, index) = self
            .functions()
            .find(call)
            .ok_or_else(|| broken(format!("the component does not export {call}")))?;
        let (function, mut store) = self.exported(index);
        let function = function.ok_or_else(|| broken(format!("{call} is no function")))?;
        let ty = function.ty(&mut store);
        if ty.params().len() != arguments.len() {
            let (wanted, given) = (ty.params().len(), arguments.len());
            return Err(broken(format!(
                "{call} takes {wanted} arguments, and {given} are given"
            )));
        }
        let values: Result<Vec<Val>, String> = ty
            .params()
            .zip(arguments)
            .map(|((name, ty), argument)| {
                value::decode(argument, &ty).map_err(|error| format!("{call}: {name}{error}"))
            })
            .collect();
        let values = values.map_err(broken)?;
        let mut results = vec![Val::Bool(false); ty.results().len()];
        self.hold(time);
        self.call(name, move |store, _| {
            Box::pin(async move {
                function.call_async(store, &values, &mut results).await?;
                Ok(results.first().map_or(Value::Null, value::encode))
            })
        })
        .await
    }
}

/// Links what a component imports of the contract so that `answers` is asked.
pub(super) fn link(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<Host>,
    answers: &Arc<dyn Answers>,
) -> wasmtime::Result<()> {
    for (interface, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else {
            continue;
        };
        for (function, item) in instance.exports(engine) {
            let (ComponentItem::ComponentFunc(_), Some(call)) =
                (item.ty, short(interface, function))
            else {
                continue;
            };
            let answers = answers.clone();
            linker.instance(interface)?.func_new(
                function,
                move |_, ty: ComponentFunc, arguments: &[Val], results: &mut [Val]| {
                    let arguments = arguments.iter().map(value::encode).collect();
                    let answer = answers.answer(&call, arguments);
                    let answer =
                        answer.map_err(|why| wasmtime::Error::msg(format!("{call}: {why}")))?;
                    for (result, ty) in results.iter_mut().zip(ty.results()) {
                        *result = value::decode(&answer, &ty).map_err(|error| {
                            wasmtime::Error::msg(format!("the answer to {call} cannot be: {error}"))
                        })?;
                    }
                    Ok(())
                },
            )?;
        }
    }
    Ok(())
}
