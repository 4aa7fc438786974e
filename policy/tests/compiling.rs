//! Plans for platforms: the kernel is an argument, so every kernel can be asked about.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use common::{manifest, root_platform, shipped, user_platform};
use hotcell_policy::{
    Action, Arch, Plan, Platform, Policy, PolicyError, Profile, SeccompData, compile, compiler_plan,
    evaluate, resolve,
};
use hotcell_protocol::{Filters, Launch, Namespace, Place, Resource, Runtime};

fn widest(name: &str) -> Policy {
    let profile = shipped(name);
    let runtime = *profile.runtimes().first().expect("has one");
    Policy::widest(&profile, runtime).expect("is for it")
}

fn plan(name: &str, platform: &Platform) -> Plan {
    compile(&widest(name), platform).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn rlimit(plan: &Plan, resource: Resource) -> Option<u64> {
    plan.orders.rlimits.iter().find(|rlimit| rlimit.resource == resource).map(|rlimit| rlimit.value)
}

fn command(filesystem: &str) -> Policy {
    let members = format!(r#""runtime": "command", "permissions": {{"filesystem": {{{filesystem}}}}}"#);
    resolve(&manifest("wasm", &members), &shipped("wasi-command")).unwrap_or_else(|error| panic!("{error}"))
}

/// The `LANDLOCK_ACCESS_FS_*` bits of each ABI, as the kernel documents them.
const KNOWN_RIGHTS: [u64; 8] = [0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff, 0xffff];

#[test]
fn a_plan_grants_only_rights_that_its_landlock_abi_has() {
    for abi in 3..=9 {
        let plan = plan("wasi-command", &Platform { landlock_abi: abi, ..root_platform() });
        assert_eq!(plan.orders.landlock.abi, abi.min(7));
        let known = KNOWN_RIGHTS.get(abi.min(7) as usize).copied().unwrap_or_default();
        for rule in &plan.orders.landlock.rules {
            assert_ne!(rule.access, 0, "{rule:?}");
            assert_eq!(rule.access & !known, 0, "ABI {abi}: {rule:?}");
        }
    }
}

#[test]
fn reading_gives_no_right_to_change_and_nothing_gives_execution_or_devices() {
    const CHANGING: u64 = 1 << 1 | 1 << 4 | 1 << 5 | 0x1fc0 | 1 << 13 | 1 << 14;
    const NEVER: u64 = 1 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 15;
    let plan = plan("wasi-command", &root_platform());
    for rule in &plan.orders.landlock.rules {
        assert_eq!(rule.access & NEVER, 0, "{rule:?}");
        assert_eq!(rule.access & CHANGING == 0, rule.place == Place::Plugin, "{rule:?}");
    }
}

#[test]
fn native_code_is_executed_and_wasm_copied_unless_the_profile_says_otherwise() {
    for (name, usual) in
        [("native-strict", Launch::Exec), ("pure-compute", Launch::Fork), ("wasi-command", Launch::Fork)]
    {
        assert_eq!(plan(name, &root_platform()).orders.launch, usual, "{name}");
        for (word, launch) in [("fork", Launch::Fork), ("exec", Launch::Exec)] {
            let text =
                format!("schema = 1\nsummary = \"As {name}.\"\nextends = \"{name}\"\nlaunch = \"{word}\"\n");
            let profile = Profile::parse("own.toml", &text).unwrap_or_else(|error| panic!("{error}"));
            let policy = Policy::widest(&profile, *profile.runtimes().first().expect("has one"));
            let plan = compile(&policy.expect("is for it"), &root_platform()).expect("compiles");
            assert_eq!(plan.orders.launch, launch, "{name}");
            let line = plan.facts.iter().find(|fact| fact.source == "own launch").expect("the plan says so");
            assert!(line.text.contains("address layout"), "{}", line.text);
        }
    }
    let compiler = compiler_plan(&root_platform()).expect("compiles");
    assert_eq!(compiler.orders.launch, Launch::Exec);
}

#[test]
fn a_missing_landlock_is_said_with_the_kernel_that_has_it() {
    for (abi, name, since) in [(0, "pure-compute", (5, 13)), (2, "wasi-command", (6, 2))] {
        let platform = Platform { landlock_abi: abi, kernel: (5, 10), ..root_platform() };
        let error = compile(&widest(name), &platform).expect_err("lacks it");
        let PolicyError::Unavailable { layer, since_kernel, .. } = &error else { panic!("{error}") };
        assert_eq!((*layer, *since_kernel), ("landlock", since), "{error}");
        assert!(error.to_string().contains("lsm="), "{error}");
    }
    for abi in 1..=2 {
        compile(&widest("pure-compute"), &Platform { landlock_abi: abi, ..root_platform() })
            .expect("needs no more");
    }
}

#[test]
fn a_missing_seccomp_is_said_and_only_native_plugins_need_its_listener() {
    let without = Platform { seccomp_filter: false, ..root_platform() };
    for name in Profile::shipped_names() {
        let error = compile(&widest(name), &without).expect_err("has no seccomp");
        assert!(matches!(error, PolicyError::Unavailable { layer: "seccomp", .. }), "{error}");
    }
    let deaf = Platform { seccomp_listener: false, ..root_platform() };
    compile(&widest("pure-compute"), &deaf).expect("control: wasm needs no listener");
    let error = compile(&widest("native-strict"), &deaf).expect_err("needs a listener");
    assert!(matches!(error, PolicyError::Unavailable { layer: "seccomp", .. }), "{error}");
}

#[test]
fn namespaces_are_entered_as_the_platform_can_or_the_start_is_refused() {
    let wanted = [Namespace::Ipc, Namespace::Network, Namespace::Uts];
    assert_eq!(plan("native-strict", &root_platform()).orders.namespaces, wanted);
    let for_user = plan("native-strict", &user_platform()).orders.namespaces;
    assert_eq!(for_user.split_first(), Some((&Namespace::User, &wanted[..])));
    let no_user_namespaces = Platform { user_namespaces: false, ..user_platform() };
    let no_namespaces = Platform { namespaces: false, ..root_platform() };
    for platform in [no_user_namespaces, no_namespaces] {
        let error = compile(&widest("native-strict"), &platform).expect_err("has none");
        assert!(matches!(error, PolicyError::Unavailable { layer: "namespaces", .. }), "{error}");
        compile(&widest("pure-compute"), &platform).expect("control: asks for none");
    }
}

#[test]
fn an_ordinary_user_gets_no_uid_of_its_own_and_is_told() {
    let (root, user) = (plan("pure-compute", &root_platform()), plan("pure-compute", &user_platform()));
    assert_eq!((root.orders.distinct_uid, root.orders.dumpable), (true, false));
    assert_eq!((user.orders.distinct_uid, user.orders.dumpable), (false, true));
    assert_eq!((rlimit(&root, Resource::NProc), rlimit(&user, Resource::NProc)), (Some(0), None));
    for word in ["distinct uid", "RLIMIT_NPROC", "undumpable"] {
        assert!(user.absent().any(|line| line.contains(word)), "{word}");
        assert!(!root.absent().any(|line| line.contains(word)), "{word}");
    }
}

#[test]
fn memory_is_bounded_by_address_space_where_nothing_is_reserved_and_by_data_elsewhere() {
    let native = plan("native-strict", &root_platform());
    assert_eq!(rlimit(&native, Resource::AddressSpace), Some(native.orders.limits.memory));
    let core = plan("pure-compute", &root_platform());
    let memory = core.orders.limits.memory;
    assert_eq!(rlimit(&core, Resource::AddressSpace), Some((16 << 30) + memory));
    assert_eq!(rlimit(&core, Resource::Data), Some((64 << 20) + memory));
    let compiler = compiler_plan(&root_platform()).expect("compiles");
    assert_eq!(rlimit(&compiler, Resource::AddressSpace), Some(compiler.orders.limits.memory));
    for plan in [native, core, compiler] {
        for zero in [Resource::Core, Resource::MemLock, Resource::MsgQueue, Resource::RtPrio, Resource::Nice]
        {
            assert_eq!(rlimit(&plan, zero), Some(0), "{zero:?}");
        }
        assert_eq!(rlimit(&plan, Resource::FileSize), Some(plan.orders.limits.file_size));
    }
}

#[test]
fn filters_are_of_the_kind_that_the_runtime_needs() {
    let kind = |plan: &Plan| match &plan.orders.filters {
        Filters::Staged { run, .. } => (false, run.is_some()),
        Filters::Supervised { .. } => (true, true),
    };
    for (name, expected) in
        [("pure-compute", (false, true)), ("wasi-command", (false, true)), ("native-strict", (true, true))]
    {
        assert_eq!(kind(&plan(name, &root_platform())), expected, "{name}");
    }
    let compiler = compiler_plan(&root_platform()).expect("compiles");
    assert_eq!((compiler.orders.runtime, kind(&compiler)), (Runtime::Compiler, (false, false)));
}

#[test]
fn a_read_only_path_inside_a_writable_one_is_refused_in_words() {
    let paths = |read: &str, write: &str| {
        command(&format!(r#""read_paths": ["{read}"], "write_paths": ["{write}"]"#))
    };
    let error = compile(&paths("${data}/in", "${data}"), &root_platform()).expect_err("Landlock cannot");
    assert!(matches!(error, PolicyError::Inexpressible { .. }), "{error}");
    for word in ["`${data}/in`", "`${data}`", "Landlock"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    for (read, write) in
        [("${data}", "${data}/out"), ("${data}/in", "${data}/input"), ("${plugin}", "${data}")]
    {
        compile(&paths(read, write), &root_platform())
            .unwrap_or_else(|error| panic!("{read} {write}: {error}"));
    }
}

#[test]
fn two_paths_of_one_guest_name_are_refused() {
    let text = "schema = 1\nsummary = \"More.\"\nextends = \"wasi-command\"\nfile = [{ path = \"/data/x\", access = \"read\", why = \"x\" }]\n";
    let profile = Profile::parse("more.toml", text).unwrap_or_else(|error| panic!("{error}"));
    let asking = |paths: &str| {
        let members =
            format!(r#""runtime": "command", "permissions": {{"filesystem": {{"read_paths": [{paths}]}}}}"#);
        let policy = resolve(&manifest("wasm", &members), &profile).unwrap_or_else(|error| panic!("{error}"));
        compile(&policy, &root_platform())
    };
    let plan = asking(r#""/data/x""#).expect("control: one of them");
    assert_eq!(plan.orders.files.first().map(|file| file.guest.as_str()), Some("/data/x"));
    let error = asking(r#""/data/x", "${data}/x""#).expect_err("are both /data/x");
    assert!(matches!(error, PolicyError::Inexpressible { .. }), "{error}");
}

#[test]
fn threads_are_refused_by_name() {
    let native =
        std::fs::read_to_string(common::root().join("sandbox-profiles/native-strict.toml")).expect("reads");
    let text = native.replacen("threads     = 0", "threads = 1", 1);
    assert_ne!(text, native);
    let profile = Profile::parse("mine.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let policy = Policy::widest(&profile, Runtime::Native).expect("is for it");
    let error = compile(&policy, &root_platform()).expect_err("is not built");
    assert!(matches!(&error, PolicyError::NotBuilt { key, .. } if key == "limits.threads"), "{error}");
}

#[test]
fn what_an_old_landlock_leaves_open_is_said() {
    let absent = |abi| -> Vec<String> {
        let platform = Platform { landlock_abi: abi, ..root_platform() };
        plan("pure-compute", &platform)
            .absent()
            .filter(|line| line.starts_with("Landlock"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!([1, 3, 4, 6, 7].map(|abi| absent(abi).len()), [3, 2, 1, 0, 0]);
}

#[test]
fn a_plan_for_the_other_architecture_has_that_architectures_numbers() {
    let arm = plan("native-strict", &Platform { arch: Arch::Aarch64, ..root_platform() });
    let intel = plan("native-strict", &root_platform());
    assert_ne!(arm.orders.filters, intel.orders.filters);
    assert!(arm.facts.iter().all(|fact| !fact.text.starts_with("run  time ")), "aarch64 has no time(2)");
}

#[test]
fn the_orders_of_every_plan_fit_the_message_that_carries_them() {
    for name in Profile::shipped_names() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let plan = plan(name, &Platform { arch, ..user_platform() });
            let encoded = hotcell_protocol::codec::encode(&plan.orders).expect("encodes");
            assert!(encoded.len() < 32 * 1024, "{name}: {} bytes", encoded.len());
            assert_eq!(
                hotcell_protocol::codec::decode::<hotcell_protocol::Orders>(&encoded).expect("decodes"),
                plan.orders
            );
        }
    }
}

#[test]
fn the_largest_manifest_still_makes_orders_that_fit_one_packet() {
    let calls: Vec<_> = (0..128).map(|number| format!("c{number:063}")).collect();
    let grants: Vec<_> =
        calls.iter().map(|name| format!("[[host-call]]\nname = \"{name}\"\nwhy = \"x\"\n")).collect();
    let text = format!("schema = 1\nsummary = \"All.\"\nextends = \"wasi-command\"\n{}", grants.concat());
    let profile = Profile::parse("all.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let config = "x".repeat(24 * 1024 - 2);
    // Few long paths, and as many as there may be.
    for (count, len) in [(16, 255), (128, 32)] {
        let paths: Vec<_> = (0..count).map(|number| format!("\"${{data}}/{number:0len$}\"")).collect();
        let members = format!(
            r#""runtime": "command", "config": "{config}", "permissions": {{"filesystem": {{"write_paths": [{}],
               "create_files": true, "delete_files": true}}, "host_calls": ["{}"]}}"#,
            paths.join(","),
            calls.join("\",\"")
        );
        let manifest = manifest("wasm", &members);
        let policy = resolve(&manifest, &profile).unwrap_or_else(|error| panic!("{error}"));
        let plan = compile(&policy, &root_platform()).unwrap_or_else(|error| panic!("{error}"));
        let orders = hotcell_protocol::codec::encode(&plan.orders).expect("encodes").len();
        let config = manifest.config().expect("has one").to_string().len();
        assert!(orders + config < hotcell_protocol::PACKET_MAX - 4096, "{orders} and {config} bytes");
    }
}

#[test]
fn the_same_input_makes_the_same_plan() {
    for name in Profile::shipped_names() {
        assert_eq!(plan(name, &root_platform()), plan(name, &root_platform()));
    }
}

/// The programs of a plan: while loading, and afterwards.
fn stages(plan: &Plan) -> (Vec<hotcell_protocol::Instruction>, Vec<hotcell_protocol::Instruction>) {
    let bound = |filter| hotcell_policy::for_pid(filter, 77);
    match &plan.orders.filters {
        Filters::Staged { load, run, .. } => (bound(load), bound(run.as_ref().unwrap_or(load))),
        Filters::Supervised { filter, judge } => (bound(judge), bound(filter)),
    }
}

/// Every call with arguments like those that real ones take, on each plan.
fn each_call(mut check: impl FnMut(&str, &Plan, SeccompData)) {
    const VALUES: [u64; 12] = [0, 1, 2, 3, 4, 5, 6, 9, 77, 0x40, 0x241, u64::MAX];
    for name in Profile::shipped_names() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let plan = plan(name, &Platform { arch, ..root_platform() });
            for nr in 0..500 {
                for first in VALUES {
                    for third in VALUES {
                        let args = [first, first, third, third, 0, 0];
                        check(
                            name,
                            &plan,
                            SeccompData { nr, arch: arch.audit(), instruction_pointer: 0, args },
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_allowed_for_ever_is_allowed_while_loading() {
    let mut allowed = 0;
    each_call(|name, plan, data| {
        let (load, run) = stages(plan);
        if evaluate(&run, &data) == Action::Allow {
            assert_eq!(evaluate(&load, &data), Action::Allow, "{name}: {data:?}");
            allowed += 1;
        }
    });
    assert!(allowed > 1000, "control: {allowed} calls are allowed");
}

#[test]
fn nothing_becomes_executable_and_no_handler_or_filter_is_installed_once_the_plugin_runs() {
    const PROT_EXEC: u64 = 4;
    each_call(|name, plan, data| {
        let (load, run) = stages(plan);
        let call = hotcell_policy::syscall_name(plan.arch(), data.nr).unwrap_or_default();
        let executable = matches!(call, "mmap" | "mprotect") && data.args[2] & PROT_EXEC != 0;
        if executable || matches!(call, "rt_sigaction" | "seccomp" | "execve" | "clone" | "prctl") {
            assert_ne!(evaluate(&run, &data), Action::Allow, "{name}: {call} {data:?}");
        }
        // Constructors run while a native library loads.
        if plan.orders.runtime == Runtime::Native && matches!(call, "rt_sigaction" | "seccomp" | "mprotect") {
            let allowed = evaluate(&load, &data) == Action::Allow;
            assert!(!allowed || (call == "mprotect" && !executable), "{name}: {call} {data:?}");
        }
    });
}

#[test]
fn a_command_without_files_opens_none_and_one_that_reads_cannot_write() {
    const O_RDWR_CREAT: u64 = 0x42;
    let verdict = |filesystem: &str, call: &str, flags: u64| {
        let plan = compile(&command(filesystem), &root_platform()).unwrap_or_else(|error| panic!("{error}"));
        let (_, run) = stages(&plan);
        let nr = (0..500)
            .find(|nr| hotcell_policy::syscall_name(Arch::X86_64, *nr) == Some(call))
            .expect("exists");
        evaluate(
            &run,
            &SeccompData {
                nr,
                arch: Arch::X86_64.audit(),
                instruction_pointer: 0,
                args: [0, 0, flags, 0o644, 0, 0],
            },
        )
    };
    const REFUSED: Action = Action::Errno(1);
    let (reads, writes) = (r#""read_paths": ["${data}"]"#, r#""write_paths": ["${data}"]"#);
    let creates = format!(r#"{writes}, "create_files": true"#);
    let deletes = format!(r#"{writes}, "delete_files": true"#);
    assert_eq!(verdict(r#""create_files": false"#, "openat", 0), REFUSED);
    assert_eq!(verdict(reads, "openat", 0), Action::Allow);
    assert_eq!(verdict(reads, "openat", 2), REFUSED);
    assert_eq!(verdict(reads, "pwrite64", 0), REFUSED);
    assert_eq!(verdict(writes, "openat", 2), Action::Allow);
    assert_eq!(verdict(writes, "openat", O_RDWR_CREAT), REFUSED);
    assert_eq!(verdict(&creates, "openat", O_RDWR_CREAT), Action::Allow);
    assert_eq!(verdict(&creates, "unlinkat", 0), REFUSED);
    assert_eq!(verdict(&deletes, "unlinkat", 0), Action::Allow);
    assert_eq!(verdict(&deletes, "openat", O_RDWR_CREAT), REFUSED);
}

#[test]
fn what_a_call_outside_all_sets_meets_is_the_runtimes_own() {
    let meets = |name: &str| {
        let plan = plan(name, &root_platform());
        let (load, run) = stages(&plan);
        let data = SeccompData { nr: 499, arch: Arch::X86_64.audit(), ..SeccompData::default() };
        (evaluate(&load, &data), evaluate(&run, &data))
    };
    assert_eq!(meets("pure-compute"), (Action::Errno(1), Action::KillProcess));
    assert_eq!(meets("wasi-command"), (Action::Errno(1), Action::Errno(1)));
    assert_eq!(meets("native-strict"), (Action::Notify, Action::Notify));
}
