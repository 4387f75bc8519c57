//! Stack traces as data: what their lines look like, and what may follow what.
//!
//! A line in the middle of a trace may begin a record, too, if it can be nothing else: the first part
//! of the trace may lie in another file, or have been handed on already.

use crate::manifest::Preset;

/// The state in which no record is open.
pub(super) const START: &str = "start";

/// In each of the states `from`, a line that matches `pattern` leads to the state `to`.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) from: &'static [&'static str],
    pub(super) pattern: &'static str,
    pub(super) to: &'static str,
}

const fn rule(from: &'static [&'static str], pattern: &'static str, to: &'static str) -> Rule {
    Rule { from, pattern, to }
}

/// The rules of a preset. Where several match, the first counts.
pub(super) fn table(preset: Preset) -> &'static [Rule] {
    match preset {
        Preset::Java => JAVA,
        Preset::Python => PYTHON,
        Preset::Go => GO,
    }
}

/// A class by its full name that is called an exception, or any class that a line begins with.
const JAVA_THROWABLE: &str = r"(?:\w[\w$]*\.)+[\w$]*(?:Exception|Error|Throwable)(?:[:\s]|$)|^(?:[a-z]\w*\.)+[A-Z][\w$]*(?::\s|\s*$)";

/// ```text
/// Exception in thread "main" java.lang.IllegalStateException: no stock
///         at shop.Cart.pay(Cart.java:40)
///         Suppressed: shop.CloseException: twice
///                 at shop.Cart.close(Cart.java:60)
/// Caused by: java.io.IOException: broken pipe
///         ... 2 more
/// ```
const JAVA: &[Rule] = &[
    rule(&["start", "nested"], JAVA_THROWABLE, "trace"),
    rule(&["start"], r"^[\t ]+at [^\s()]+\([^()]*\)", "trace"),
    rule(&["trace"], r"^[\t ]+at \S", "trace"),
    // As often as the frames are the same as the outer exception's.
    rule(&["trace"], r"^[\t ]+\.\.\. \d+ ", "trace"),
    // Log frameworks that write the root cause first say "Wrapped by".
    rule(
        &["trace"],
        r"^[\t ]*(?:Caused by|Suppressed|Wrapped by): ",
        "trace",
    ),
    rule(&["trace"], r"^[\t ]*\[CIRCULAR REFERENCE: ?", "trace"),
    rule(&["trace"], r"^[\t ]*\(Coroutine boundary\)", "trace"),
    rule(&["trace"], r"^[\t ]*nested exception is:", "nested"),
];

const PYTHON_TRACEBACK: &str = r"Traceback \(most recent call last\):\s*$";
const PYTHON_GROUP: &str = r"^\s*\+ Exception Group Traceback \(most recent call last\):\s*$";
const PYTHON_CHAIN: &str = r"^(?:During handling of the above exception, another exception occurred|The above exception was the direct cause of the following exception):\s*$";

/// ```text
/// Traceback (most recent call last):
///   File "/srv/shop.py", line 8, in pay
///     stock[item]
///     ~~~~~^^^^^^
/// KeyError: 'tea'
///
/// During handling of the above exception, another exception occurred:
///
/// Traceback (most recent call last):
/// ```
const PYTHON: &[Rule] = &[
    rule(&["start", "chained"], PYTHON_GROUP, "group"),
    rule(&["start", "chained"], PYTHON_TRACEBACK, "frames"),
    // An error in the syntax has no other head.
    rule(&["start"], r#"^  File "[^"]*", line \d+"#, "frames"),
    rule(&["frames"], r"^[\t ]+\S", "frames"),
    // The exception and its message end a traceback; a blank line and another one may follow.
    rule(&["frames"], r"^[A-Za-z_][\w.<>]*(?::|\s*$)", "raised"),
    // Groups draw a frame around the tracebacks in them.
    rule(&["group"], r"^[\t ]+[|+]", "group"),
    rule(&["raised", "group", "gap"], PYTHON_CHAIN, "chained"),
    rule(&["raised", "group"], r"^\s*$", "gap"),
    rule(&["chained"], r"^\s*$", "chained"),
];

const GO_GOROUTINE: &str = r"^goroutine \d+ (?:\S+=\S+ )*\[[^\]]*\]:\s*$";
const GO_PANIC: &str = r"^(?:panic|fatal error|runtime): ";

/// ```text
/// panic: runtime error: invalid memory address or nil pointer dereference
/// [signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x46]
///
/// goroutine 1 [running]:
/// main.(*Cart).Pay(0x0)
///         /srv/cart.go:12 +0x1d
/// created by main.main in goroutine 1
///         /srv/main.go:7 +0x2a
/// exit status 2
/// ```
const GO: &[Rule] = &[
    rule(&["start", "panic"], GO_PANIC, "panic"),
    // What a web server recovered from and logged.
    rule(&["start"], r"\bpanic serving \S+: ", "panic"),
    rule(
        &["start"],
        r"^(?:SIG[A-Z]+: |unexpected fault address )",
        "panic",
    ),
    rule(&["start", "panic", "gap", "frames"], GO_GOROUTINE, "frames"),
    rule(&["panic", "gap", "frames"], r"^runtime stack:", "frames"),
    // A panic within a panic, and messages of several lines.
    rule(&["panic"], r"^\t", "panic"),
    rule(&["panic", "gap"], r"^\[(?:signal|recovered)", "panic"),
    rule(&["panic"], r"^PC=0x", "panic"),
    rule(
        &["frames"],
        r"^[^\s():]+(?:\([^\s()]*\)[^\s():]*)*\(.*\)\s*$",
        "frames",
    ),
    rule(&["frames"], r"^\t", "frames"),
    rule(&["frames"], r"^created by ", "frames"),
    rule(&["frames"], r"^\.\.\..*frames elided\.\.\.", "frames"),
    rule(
        &["gap", "frames"],
        r"^r?[a-z0-9]{1,6} +0x[0-9a-f]+\s*$",
        "frames",
    ),
    rule(&["panic", "gap", "frames"], r"^exit status \d+\s*$", "end"),
    rule(&["panic", "gap", "frames"], r"^\s*$", "gap"),
];
