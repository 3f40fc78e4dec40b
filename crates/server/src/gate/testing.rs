//! Small things that several tests of the gate's loops need.

use assay_engine::gate::config::{
    LandingWay, Manager, Messages, Pipeline, Precedence, Reporters, Requirements, WindowConfig,
};

/// A pipeline that does nothing until the test changes it.
pub(crate) fn pipeline(name: &str, change: impl FnOnce(&mut Pipeline)) -> Pipeline {
    let mut pipeline = Pipeline {
        name: name.into(),
        description: None,
        manager: Manager::Independent,
        source: "gerrit".into(),
        precedence: Precedence::Normal,
        triggers: Vec::new(),
        require: Requirements::default(),
        reject: Vec::new(),
        reporters: Reporters::default(),
        messages: Messages::default(),
        dequeue_on_new_patchset: true,
        ignore_dependencies: false,
        disable_after: None,
        window: WindowConfig::default(),
        queues: Vec::new(),
        landing: LandingWay::Submit,
    };
    change(&mut pipeline);
    pipeline
}
