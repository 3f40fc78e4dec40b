//! Pipelines.

use super::{reporter, trigger};
use crate::approval;
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use assay_engine::gate::config::{
    Growth, LandingWay, Manager, Messages, Pipeline, Precedence, ReportAction, Reporters, Requirements,
    WindowConfig,
};
use assay_engine::gate::ids::PipelineName;

const MANAGERS: [(&str, Manager); 2] =
    [("IndependentPipelineManager", Manager::Independent), ("DependentPipelineManager", Manager::Dependent)];
const PRECEDENCES: [(&str, Precedence); 3] =
    [("high", Precedence::High), ("normal", Precedence::Normal), ("low", Precedence::Low)];
/// Where changes come from unless said.
pub(crate) const SOURCE: &str = "gerrit";

/// A kind of growth, by its factor.
type Grow = fn(u32) -> Growth;

/// One pipeline, without its queues.
pub(super) fn read(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Pipeline> {
    let mut fields = reader.fields(node, "a pipeline")?;
    let name = reader.required(&mut fields, "name").and_then(|node| reader.name(node, "name"));
    let manager = reader.required(&mut fields, "manager");
    let manager = manager.and_then(|node| reader.word(node, "manager", &MANAGERS));
    let triggers = reader.required(&mut fields, "trigger").map(|node| trigger::read(reader, node));
    let mut text = |key| fields.get(key).and_then(|node| reader.text(node, key)).map(ToOwned::to_owned);
    let defaults = Messages::default();
    let messages = Messages {
        success: text("success-message").unwrap_or(defaults.success),
        failure: text("failure-message").unwrap_or(defaults.failure),
        merge_failure: text("merge-failure-message").unwrap_or(defaults.merge_failure),
        footer: text("footer-message").unwrap_or(defaults.footer),
    };
    let description = text("description");
    let source = text("source").unwrap_or_else(|| SOURCE.to_owned());
    let precedence = fields.get("precedence");
    let precedence = precedence.and_then(|node| reader.word(node, "precedence", &PRECEDENCES));
    let mut flag = |key| fields.get(key).and_then(|node| reader.boolean(node, key));
    let dequeue_on_new_patchset = flag("dequeue-on-new-patchset").unwrap_or(true);
    let ignore_dependencies = flag("ignore-dependencies").unwrap_or(false);
    let disable_after = fields.get("disable-after-consecutive-failures");
    let disable_after =
        disable_after.and_then(|node| reader.number(node, "disable-after-consecutive-failures", 1));
    let window = window(reader, &mut fields);
    let (require, reject) = requirements(reader, &mut fields);
    let reporters = reporters(reader, &mut fields);
    if manager == Some(Manager::Dependent) && !submits(&reporters.success) {
        let message = "nothing that passes is merged: no reporter of `success` has `submit: true`";
        reader.sink.warning("no-submit", fields.place, message);
    }
    reader.finish(fields);
    Some(Pipeline {
        name: PipelineName::from(name?),
        description,
        manager: manager.unwrap_or(Manager::Independent),
        source: source.as_str().into(),
        precedence: precedence.unwrap_or_default(),
        triggers: triggers.unwrap_or_default(),
        require,
        reject,
        reporters,
        messages,
        dequeue_on_new_patchset,
        ignore_dependencies,
        disable_after,
        window,
        queues: Vec::new(),
        landing: LandingWay::Submit,
    })
}

fn submits(actions: &[ReportAction]) -> bool {
    actions.iter().any(|action| matches!(action, ReportAction::Review { submit: true, .. }))
}

fn window(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> WindowConfig {
    let defaults = WindowConfig::default();
    let mut number = |key, least| fields.get(key).and_then(|node| reader.number(node, key, least));
    let start = number("window", 0).unwrap_or(defaults.start);
    let floor = number("window-floor", 1).unwrap_or(defaults.floor);
    let increase = number("window-increase-factor", 1).unwrap_or(1);
    let decrease = number("window-decrease-factor", 1).unwrap_or(2);
    let kinds: [(&str, Grow); 2] = [("linear", Growth::Linear), ("exponential", Growth::Exponential)];
    let mut kind = |key| fields.get(key).and_then(|node| reader.word(node, key, &kinds));
    let increases = kind("window-increase-type").unwrap_or(Growth::Linear);
    let decreases = kind("window-decrease-type").unwrap_or(Growth::Exponential);
    WindowConfig {
        start,
        floor,
        ceiling: defaults.ceiling,
        increase: increases(increase),
        decrease: decreases(decrease),
    }
}

fn requirements(
    reader: &mut Reader<'_, '_>,
    fields: &mut Fields<'_>,
) -> (Requirements, Vec<assay_engine::gate::config::ApprovalFilter>) {
    let mut require = Requirements::default();
    if let Some(node) = fields.get("require")
        && let Some(mut inner) = reader.fields(node, "`require`")
    {
        require.approvals = approval::filters(reader, inner.get("approval"), "a required approval");
        require.open = inner.get("open").and_then(|node| reader.boolean(node, "open"));
        require.current_patchset =
            inner.get("current-patchset").and_then(|node| reader.boolean(node, "current-patchset"));
        let status = inner.get("status").map(|node| reader.texts(node, "status"));
        require.status = status.unwrap_or_default().into_iter().map(ToOwned::to_owned).collect();
        reader.finish(inner);
    }
    let mut reject = Vec::new();
    if let Some(node) = fields.get("reject")
        && let Some(mut inner) = reader.fields(node, "`reject`")
    {
        reject = approval::filters(reader, inner.get("approval"), "a rejected approval");
        reader.finish(inner);
    }
    (require, reject)
}

fn reporters(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> Reporters {
    let mut actions = |key| fields.get(key).map(|node| reporter::read(reader, node));
    Reporters {
        start: actions("start").unwrap_or_default(),
        success: actions("success").unwrap_or_default(),
        failure: actions("failure").unwrap_or_default(),
        // An empty one counts as none there.
        merge_failure: actions("merge-failure").filter(|actions| !actions.is_empty()),
        disabled: actions("disabled").unwrap_or_default(),
    }
}
