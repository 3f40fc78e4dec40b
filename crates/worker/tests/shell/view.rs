//! What a job sees of the host.

use super::bench::{Bench, Never, run, task};
use assay_proto::task::Network;
use fs_err as fs;
use std::net::TcpListener;

#[tokio::test]
async fn a_job_sees_the_hosts_programs_and_nothing_of_its_own_but_its_folders() {
    let bench = Bench::new();
    let other = bench.path().join("data/tokens/worker");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, "token").unwrap();
    let script = format!(
        "[ $(pwd) = /workspace ] && [ $HOME = /home/assay ] && [ $(id -u) = 1000 ] && [ $(id -un) = assay ] && [ $(hostname) = assay ]
         touch /workspace/a ~/b /tmp/c /dev/shm/d; git --version; python3 --version
         for dir in /usr /etc '' /run /run/assay /home ~root /var; do ! touch $dir/x || exit 9; done 2>/dev/null
         [ ! -e {other} ] && [ ! -e {} ] && [ ! -e /proc/{} ] && [ \"$(ls /home)\" = assay ]
         ! cat /etc/shadow /run/assay/../docker.sock 2>/dev/null | grep . || exit 8
         [ $(ls /proc | grep -c '^[0-9]') -lt 8 ] && ! mount -t tmpfs x /mnt 2>/dev/null && ! kill -TERM 1 2>/dev/null
         [ \"$(cat < /proc/self/fd/0)\" = '' ] && echo all is well",
        bench.attempt.path(),
        if std::process::id() < 100 { 4_000_000 } else { std::process::id() },
    );
    let ended = bench.run_at(&task(&script), &Never).await;
    assert_eq!(ended.outcome(), "passed", "{}", ended.console);
    assert!(ended.console.contains("all is well"), "{}", ended.console);
    assert!(!camino::Utf8Path::new("/tmp/c").exists());
}

#[tokio::test]
async fn the_network_is_its_own_unless_the_job_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let mut task = task(&script);
    assert_eq!(run(&task).await.outcome(), "failed");
    task.network = Network::Host;
    let ended = run(&task).await;
    assert_eq!(ended.outcome(), "passed", "{}", ended.console);
}

#[tokio::test]
async fn what_is_no_task_is_refused() {
    let bench = Bench::new();
    let mut attempt = bench.attempt(&task("true"));
    for (text, wanted) in [
        ("{", "TASK is not a task"),
        ("rpmlint", "leave BACKEND out"),
        ("{\"name\": \"x\"}", "no phase has a step"),
        (
            "{\"name\": \"x\", \"run\": {\"steps\": [{\"script\": \"\"}]}, \"artifacts\": [\"[z-a]\"]}",
            "is no glob",
        ),
    ] {
        attempt.settings.insert("TASK".into(), text.into());
        let report = assay_worker::exec::run(&attempt).await;
        assert_eq!((report.outcome.openqa(), report.class.word()), ("incomplete", "test"));
        assert!(report.reason.as_deref().unwrap().contains(wanted), "{:?}", report.reason);
    }
}
