//! Where the command line's words go. Whoever reads them may have had enough (`… | head`): that is no failure, and no panic.

use std::fmt;
use std::io::{self, ErrorKind, Write};

/// A line to standard output.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::out::line(format_args!($($words)*)) };
}

/// A text to standard output as it is.
macro_rules! tell {
    ($($words:tt)*) => { $crate::cli::out::text(format_args!($($words)*)) };
}

/// A line to standard error.
macro_rules! complain {
    ($($words:tt)*) => { $crate::cli::out::complaint(format_args!($($words)*)) };
}

pub(crate) use {complain, say, tell};

/// Exit status when the answer cannot be written.
const UNWRITTEN: i32 = 1;

pub(crate) fn line(words: fmt::Arguments<'_>) {
    written(writeln!(io::stdout().lock(), "{words}"));
}

pub(crate) fn text(words: fmt::Arguments<'_>) {
    written(write!(io::stdout().lock(), "{words}"));
}

/// Nobody can be told that somebody cannot be told.
pub(crate) fn complaint(words: fmt::Arguments<'_>) {
    let _nobody_reads = writeln!(io::stderr().lock(), "{words}");
}

/// What is left of a failure to write: nothing where nobody reads any more.
pub(crate) fn unless_unread(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn written(result: io::Result<()>) {
    if let Err(error) = unless_unread(result) {
        complaint(format_args!("querygate: cannot write the answer: {error}"));
        // Whoever reads the exit status must not take half an answer for all of it.
        std::process::exit(UNWRITTEN);
    }
}
