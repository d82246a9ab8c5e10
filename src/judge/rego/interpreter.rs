//! The interpreter of Rego, in this process. Its time is limited, though not within a builtin; its memory is not: whoever does not
//! trust what is evaluated gives it a process of its own. Start at [`Interpreter::new`].

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use super::{ENTRY, Evaluate, RegoParts, brief};

/// Interpreters kept for the next question.
const MAX_ENGINES: usize = 32;
/// Steps of the interpreter between two looks at its clock.
const CHECKED_EVERY: u32 = 16;
/// The first evaluation prepares the policy; that takes longer.
const FIRST_TIME: u32 = 50;
/// Stack an evaluation has, and how much it takes of its own if there is less.
const STACK: usize = 1 << 20;
const OWN_STACK: usize = 8 << 20;

/// A policy that is ready to be asked.
#[derive(Debug)]
pub struct Interpreter {
    template: Engine,
    engines: Mutex<Vec<Engine>>,
}

impl Interpreter {
    /// Compiles a policy.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn new(parts: &RegoParts) -> Result<Self, String> {
        let mut engine = Engine::new();
        for (name, text) in &parts.modules {
            engine.add_policy(name.clone(), text.clone()).map_err(|error| brief(&error.to_string()))?;
        }
        for (name, text) in &parts.data {
            engine.add_data_json(text).map_err(|error| format!("{name}: {}", brief(&error.to_string())))?;
        }
        limit(&mut engine, parts.limit.saturating_mul(FIRST_TIME));
        // What it answers to nothing does not matter; it is prepared now, and its copies are as well.
        let (mut template, _) = run(engine, Value::new_object());
        if let Some(template) = &mut template {
            limit(template, parts.limit);
        }
        let template = template.ok_or("the interpreter failed")?;
        Ok(Self { template, engines: Mutex::default() })
    }
}

impl Evaluate for Interpreter {
    fn evaluate(&self, input: &str) -> Result<serde_json::Value, String> {
        let input = Value::from_json_str(input).map_err(|error| brief(&error.to_string()))?;
        let kept = self.engines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (engine, answer) = run(kept.unwrap_or_else(|| self.template.clone()), input);
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        // Only one that is certainly well is used again.
        if answer.is_ok() && engines.len() < MAX_ENGINES {
            engines.extend(engine);
        }
        drop(engines);
        let answer = answer?;
        if answer == Value::Undefined {
            return Ok(serde_json::Value::Null);
        }
        serde_json::to_value(&answer).map_err(|error| brief(&error.to_string()))
    }
}

/// An evaluation, and the interpreter unless it panicked.
fn run(mut engine: Engine, input: Value) -> (Option<Engine>, Result<Value, String>) {
    let evaluate = AssertUnwindSafe(move || {
        engine.set_input(input);
        let answer = engine.eval_rule(ENTRY.to_owned());
        (engine, answer)
    });
    match stacker::maybe_grow(STACK, OWN_STACK, || catch_unwind(evaluate)) {
        Ok((engine, answer)) => (Some(engine), answer.map_err(|error| brief(&error.to_string()))),
        // Fail closed: a panic of the interpreter is no answer.
        Err(_) => (None, Err("the interpreter failed".to_owned())),
    }
}

fn limit(engine: &mut Engine, limit: Duration) {
    let check_interval = NonZeroU32::new(CHECKED_EVERY).unwrap_or(NonZeroU32::MIN);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval });
}
