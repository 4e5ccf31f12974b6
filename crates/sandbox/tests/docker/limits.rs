//! What a payload in a container can use up.

use crusades_sandbox::{ExitCause, KEPT_BYTES};

use crate::support::{output, run};
use crate::{image, python, shell};

#[test]
fn bombs_of_processes_threads_files_and_storage_are_bounded_and_modest_use_is_not() {
    let Some(settings) = image() else { return };
    let script = "
import os, threading, time
def until_refused(act, most):
    done = []
    try:
        while len(done) < most: done.append(act())
        return len(done), 'all'
    except (OSError, RuntimeError) as error:
        return len(done), getattr(error, 'strerror', None) or 'refused'
    finally:
        for one in done:
            if hasattr(one, 'close'): one.close()
            elif one: os.kill(one, 9); os.waitpid(one, 0)
def fork():
    pid = os.fork()
    if pid == 0: time.sleep(60)
    return pid
print(until_refused(fork, 5))
count, why = until_refused(fork, 1000); print(50 < count <= 100, why)
print(until_refused(lambda: open('/dev/null'), 100))
count, why = until_refused(lambda: open('/dev/null'), 100000); print(100 < count < 300, why)
chunk = b'x' * (1 << 20)
with open('/scratch/fits', 'wb') as file: file.write(chunk * 4)
with open('/scratch/bomb', 'wb', 0) as file: print(until_refused(lambda: file.write(chunk) and None, 64)[1])
threading.stack_size(65536)
def thread(): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
count, why = until_refused(thread, 10000); print(50 < count <= 100, why, flush=True)
os._exit(0)
";
    let Some(mut request) = python(&settings, script) else {
        return;
    };
    request.limits.processes = 100;
    request.limits.open_files = 300;
    request.limits.storage_bytes = 8 << 20;
    assert_eq!(
        output(request),
        "(5, 'all')\nTrue Resource temporarily unavailable\n\
         (100, 'all')\nTrue Too many open files\nNo space left on device\nTrue refused\n"
    );
}

#[test]
fn a_memory_bomb_ends_as_out_of_memory_and_modest_use_does_not() {
    let Some(settings) = image() else { return };
    let bombs = [
        "kept = []\nwhile True: kept.append(bytearray(b'x') * (8 << 20))",
        "import os, time\nfor i in range(4):\n    if os.fork() == 0:\n\
         \x20       kept = bytearray(b'x') * (80 << 20)\n        time.sleep(60)\ntime.sleep(60)",
        // Memory that no process maps.
        "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, b'x' * (1 << 20))",
    ];
    for bomb in bombs {
        let Some(mut request) = python(&settings, bomb) else {
            return;
        };
        request.limits.memory_bytes = 200 << 20;
        assert_eq!(run(request).0, ExitCause::OutOfMemory, "{bomb}");
    }
    let Some(mut modest) = python(&settings, "print(len(bytearray(b'x') * (64 << 20)))") else {
        return;
    };
    modest.limits.memory_bytes = 200 << 20;
    assert_eq!(output(modest), format!("{}\n", 64 << 20));
}

#[test]
fn a_log_flood_ends_as_such_and_a_modest_log_is_kept_whole_and_in_order() {
    let Some(settings) = image() else { return };
    let mut request = shell(&settings, "echo first; yes the same line again and again");
    request.limits.log_bytes = 8 << 20;
    let (cause, log) = run(request);
    assert_eq!(cause, ExitCause::LogFlood);
    assert!(log.head.starts_with(b"first\nthe same"));
    assert_eq!((log.head.len(), log.tail.len()), (KEPT_BYTES, KEPT_BYTES));
    assert!(log.total_bytes < 64 << 20, "{} bytes", log.total_bytes);
    let script = "i=0; while [ $i -lt 1000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    let expected: String = (0..1000).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!(output(shell(&settings, script)), expected);
}
