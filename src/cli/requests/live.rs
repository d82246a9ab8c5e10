//! The live view: what waits, and keys to decide. This file owns the terminal and the threads; what a key means is in
//! [`model`], how it looks in [`draw`].

pub mod draw;
pub mod model;

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event;

use super::api::{Api, ApiError, Change};
use model::{Input, Model, Wish};

/// How often countdowns move and news is looked for.
const TICK: Duration = Duration::from_millis(100);

/// Ticks without news until the screen is drawn again.
const QUIET_TICKS: u8 = 5;

/// News and answers waiting for the screen; wishes waiting for the gate.
const QUEUE: usize = 64;

/// Shows the live view until the person quits.
///
/// # Errors
///
/// The gate refuses the token. A gate that cannot be reached is shown, and tried again.
pub fn run(api: &Api) -> Result<(), ApiError> {
    run_with(api, Model::default(), || false)
}

/// The same with a prepared model (its headline, for the demo), until `stop` says so or the person quits.
pub fn run_with(api: &Api, mut model: Model, stop: impl Fn() -> bool) -> Result<(), ApiError> {
    // A wrong token is better told before the screen is taken.
    match api.me() {
        Ok(me) => model.introduce(&me),
        Err(error) if error.is_passing() => {}
        Err(error) => return Err(error),
    }
    let trouble = |error: &io::Error| ApiError::Usage(format!("cannot use the terminal: {error}"));
    let (news, inputs) = sync_channel(QUEUE);
    let (wishes, wanted) = sync_channel(QUEUE);
    // Both end with the process, or when the screen is gone and they have something to tell.
    spawn("querygate-follow", {
        let (api, news) = (api.clone(), news.clone());
        move || follow(&api, &news)
    })
    .map_err(|error| trouble(&error))?;
    spawn("querygate-wishes", {
        let api = api.clone();
        move || fulfil(&api, &wanted, &news)
    })
    .map_err(|error| trouble(&error))?;
    let mut terminal = ratatui::try_init().map_err(|error| trouble(&error))?;
    let done = converse(&mut terminal, &mut model, &inputs, &wishes, stop);
    // A terminal that is gone needs no restoring.
    let _gone = ratatui::try_restore();
    done.map_err(|error| trouble(&error))?;
    model.fatal.map_or(Ok(()), Err)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Draws, reads keys and news, until the model has had enough.
fn converse(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    inputs: &Receiver<Input>,
    wishes: &SyncSender<Wish>,
    stop: impl Fn() -> bool,
) -> io::Result<()> {
    let mut quiet = u8::MAX;
    while !stop() {
        // Laying out a large statement takes a while; without news the countdown is all that moves.
        if quiet >= QUIET_TICKS {
            let now = crate::clock::wall();
            terminal.draw(|frame| draw::draw(frame, model, now))?;
            quiet = 0;
        }
        let mut all = Vec::new();
        if event::poll(TICK)? {
            all.push(Input::Terminal(event::read()?));
        }
        all.extend(inputs.try_iter());
        quiet = if all.is_empty() { quiet.saturating_add(1) } else { u8::MAX };
        for input in all {
            match model.input(input, crate::clock::wall()) {
                None => {}
                Some(Wish::Quit) => return Ok(()),
                // A full queue means that the gate answers nothing; the person sees that and presses again.
                Some(wish) => drop(wishes.try_send(wish)),
            }
        }
    }
    Ok(())
}

fn follow(api: &Api, news: &SyncSender<Input>) {
    /// Keeps the error that ended it.
    enum End {
        Gone,
        Fatal(ApiError),
    }
    impl From<ApiError> for End {
        fn from(error: ApiError) -> Self {
            Self::Fatal(error)
        }
    }
    let told = |change: Change| news.send(Input::Change(change)).map_err(|_| End::Gone);
    if let Err(End::Fatal(error)) = api.follow(told) {
        drop(news.send(Input::Fatal(error)));
    }
}

fn fulfil(api: &Api, wanted: &Receiver<Wish>, news: &SyncSender<Input>) {
    for wish in wanted {
        let told = match wish {
            Wish::Quit => return,
            Wish::Show(id) => Input::Shown(api.show(&id).map(Box::new)),
            Wish::Decide { id, approve, body } => {
                let answer = api.decide(&id, approve, &body);
                Input::Decided(id, answer.map(Box::new))
            }
        };
        if news.send(told).is_err() {
            return;
        }
    }
}
