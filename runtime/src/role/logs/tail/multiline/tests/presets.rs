//! Traces as programs write them, between lines that are none.

use super::*;
use crate::manifest::Preset;

/// A `|` at a line's beginning stands for: this line belongs to the record before.
fn joins(presets: &[Preset], marked: &str) {
    let lines: Vec<&str> = marked.lines().collect();
    let mut text = String::new();
    let mut expected: Vec<String> = Vec::new();
    for line in lines {
        let (mark, line) = line.split_at(1);
        text += &format!("{line}\n");
        match (mark, expected.last_mut()) {
            ("|", Some(record)) => *record += &format!("\n{line}"),
            (".", _) => expected.push(line.to_owned()),
            other => panic!("{other:?}"),
        }
    }
    let rules = multiline(JoinRule::Presets(presets.to_vec()));
    let mut bench = Bench::new(&rules, FileFormat::Plain);
    bench.max_line = 100_000;
    bench.write(&text).end();
    assert_eq!(bench.bodies(), expected);
}

const JAVA: &str = r#"
.2026-01-02 03:04:05 INFO  shop.Main - started
.2026-01-02 03:04:06 ERROR shop.Web - cannot pay: java.lang.IllegalStateException: no stock
|	at shop.Cart.pay(Cart.java:40)
|	at shop.Cart.<init>(Cart.java:12) ~[shop.jar!/:1.0]
|	at java.base/java.lang.Thread.run(Thread.java:1583)
|	Suppressed: shop.CloseException: twice
|		at shop.Cart.close(Cart.java:60)
|		... 1 more
|Caused by: java.io.IOException: broken pipe
|	at java.base/sun.nio.ch.IOUtil.write(Native Method)
|	... 2 common frames omitted
|Caused by: shop.Oops
|	at shop.Db$1.run(Unknown Source)
.2026-01-02 03:04:07 INFO  shop.Web - next
.Exception in thread "main" java.lang.StackOverflowError
|	at shop.Tree.walk(Tree.java:9)
|	at shop.Tree.walk(Tree.java:9)
.java.lang.NullPointerException
|	at shop.A.b(A.java:1)
.shop.util.Broken: a class that is not called an exception
|	at shop.A.b(A.java:1)
.javax.naming.NamingException: x
|	nested exception is:
|	java.net.ConnectException: refused
|	at shop.A.b(A.java:1)
.org.hibernate.Wrong: y
|	[CIRCULAR REFERENCE: java.lang.RuntimeException: z]
.done
.  at your service
"#;

const PYTHON: &str = r#"
.INFO starting
.Traceback (most recent call last):
|  File "/srv/shop.py", line 8, in pay
|    stock[item]
|    ~~~~~^^^^^^
|  [Previous line repeated 3 more times]
|KeyError: 'tea'
|
|During handling of the above exception, another exception occurred:
|
|Traceback (most recent call last):
|  File "/srv/shop.py", line 10, in <module>
|    raise shop.errors.Sold("out") from error
|shop.errors.Sold: out
.INFO next
.ERROR Traceback (most recent call last):
|  File "<string>", line 1, in <module>
|KeyboardInterrupt
.INFO between
.  File "/srv/bad.py", line 1
|    print 'x'
|          ^
|SyntaxError: Missing parentheses in call to 'print'
.  + Exception Group Traceback (most recent call last):
|  |   File "/srv/group.py", line 3, in <module>
|  |     raise ExceptionGroup("several", errors)
|  | ExceptionGroup: several (2 sub-exceptions)
|  +-+---------------- 1 ----------------
|    | Traceback (most recent call last):
|    |   File "/srv/group.py", line 1, in f
|    | ValueError: 1
|    +---------------- 2 ----------------
|    | TypeError: 2
|    +------------------------------------
.Traceback (most recent call last):
|  File "/srv/a.py", line 1, in f
|ValueError: 1
|
|The above exception was the direct cause of the following exception:
|
|  + Exception Group Traceback (most recent call last):
|  |   File "/srv/group.py", line 3, in <module>
|  | ExceptionGroup: one (1 sub-exception)
|  +-+---------------- 1 ----------------
|    | TypeError: 2
|    +------------------------------------
.  indented, and no trace
"#;

const GO: &str = r#"
.2026/01/02 03:04:05 listening
.panic: runtime error: invalid memory address or nil pointer dereference [recovered]
|	panic: again
|[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x46d0e6]
|
|goroutine 1 [running]:
|main.(*Cart).Pay(0x0?, {0xc000012345, 0x3})
|	/srv/cart.go:12 +0x1d
|panic({0x45e4a0?, 0x4b7a10?})
|	/usr/lib/go/src/runtime/panic.go:785 +0x132
|main.Map[...](...)
|	/srv/map.go:3
|github.com/shop/db.(*Pool[...]).get.func1()
|	/srv/db/pool.go:99 +0x2a
|...additional frames elided...
|created by main.main in goroutine 1
|	/srv/main.go:7 +0x2a
|
|goroutine 18 gp=0xc000104e00 m=nil [chan receive, 3 minutes, locked to thread]:
|main.worker()
|	/srv/main.go:20
|exit status 2
.2026/01/02 03:04:06 next
.fatal error: all goroutines are asleep - deadlock!
|
|goroutine 1 [chan receive]:
|main.main()
|	/srv/main.go:5 +0x2c
.2026/01/02 03:04:07 http: panic serving 10.0.0.1:41000: no stock
|goroutine 7 [running]:
|net/http.(*conn).serve.func1()
|	/usr/lib/go/src/net/http/server.go:1947 +0xbe
.2026/01/02 03:04:08 called f(x)
.runtime: goroutine stack exceeds 1000000000-byte limit
|fatal error: stack overflow
|
|runtime stack:
|runtime.throw({0x469f3b?, 0x0?})
|	/usr/lib/go/src/runtime/panic.go:1067 +0x48 fp=0x7ffd
|
|goroutine 1 gp=0xc0000061c0 m=0 mp=0x4d5a80 [running]:
|main.f()
|	/srv/main.go:3
.SIGQUIT: quit
|PC=0x46a3c1 m=0 sigcode=0
|
|goroutine 0 gp=0x4d5500 m=0 mp=0x4d5a80 [idle]:
|runtime.futex(0x4d5bc0, 0x80, 0x0, 0x0, 0x0, 0x0)
|	/usr/lib/go/src/runtime/sys_linux_amd64.s:557 +0x21
|
|rax    0xca
|r15    0x7ffd
|exit status 2
.	an indented line
"#;

#[test]
fn java() {
    joins(&[Preset::Java], JAVA.trim_start_matches('\n'));
}

#[test]
fn python() {
    joins(&[Preset::Python], PYTHON.trim_start_matches('\n'));
}

#[test]
fn go() {
    joins(&[Preset::Go], GO.trim_start_matches('\n'));
}

#[test]
fn several_at_once() {
    let all = [Preset::Go, Preset::Python, Preset::Java];
    let text = [JAVA, PYTHON, GO].map(|text| text.trim_start_matches('\n'));
    joins(&all, &text.concat());
}

/// What is left of a trace whose beginning was handed on already stays together.
#[test]
fn the_middle_of_a_trace() {
    let java = ".	at shop.A.b(A.java:1)\n|	at shop.A.c(A.java:2)\n|Caused by: x.Y: z\n.end";
    joins(&[Preset::Java], java);
    let python = ".  File \"a.py\", line 1, in f\n|    g()\n|ValueError: 1\n.end";
    joins(&[Preset::Python], python);
    joins(
        &[Preset::Go],
        ".goroutine 1 [running]:\n|main.f()\n|	/a.go:1\n.end",
    );
}

#[test]
fn interleaved_streams() {
    let rules = multiline(JoinRule::Presets(vec![Preset::Java]));
    let mut bench = Bench::new(&rules, FileFormat::Cri);
    let t = "1970-01-01T00:00:00Z";
    for line in [
        "stderr F java.lang.RuntimeException: a",
        "stdout F java.lang.RuntimeException: b",
        "stderr F \tat x.A.f(A.java:1)",
        "stdout F \tat x.B.f(B.java:1)",
        "stdout F served",
        "stderr F Caused by: x.Y: z",
    ] {
        bench.write(&format!("{t} {line}\n"));
    }
    bench.end();
    let expected = [
        "java.lang.RuntimeException: b\n\tat x.B.f(B.java:1)",
        "served",
        "java.lang.RuntimeException: a\n\tat x.A.f(A.java:1)\nCaused by: x.Y: z",
    ];
    assert_eq!(bench.bodies(), expected);
    assert_eq!(bench.flags(), [0, 0, LINE_STDERR]);
}
