//! The settings of the process; the other tests of this binary run under them, to no harm.

#[test]
fn glibc_keeps_freed_memory_and_candles_pool_is_left_alone_once_there_are_threads() {
    // The test harness runs this beside its own main thread.
    let tuned = balgrad_nn::tune_process();
    assert_eq!(tuned.keeps_freed_memory, cfg!(all(target_os = "linux", target_env = "gnu")));
    assert!(!tuned.rests_candle_pool);
    // Allocation still works, with more than one arena asked for.
    let blocks: Vec<_> = (1..5).map(|n| std::thread::spawn(move || vec![n as u8; 40 << 20])).collect();
    for (n, block) in (1..5).zip(blocks) {
        assert!(block.join().is_ok_and(|block| block.iter().all(|&b| b == n)));
    }
}
