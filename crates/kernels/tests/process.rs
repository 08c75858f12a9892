//! A test of its own process, as the setting is for good.
#![allow(missing_docs)]

#[test]
fn glibc_agrees_to_keep_freed_memory() {
    assert_eq!(balgrad_kernels::keep_freed_memory(), cfg!(all(target_os = "linux", target_env = "gnu")));
    // Allocation still works, with more than one arena asked for.
    let blocks: Vec<_> = (1..5).map(|n| std::thread::spawn(move || vec![n as u8; 40 << 20])).collect();
    for (n, block) in (1..5).zip(blocks) {
        assert!(block.join().is_ok_and(|block| block.iter().all(|&b| b == n)));
    }
}

#[test]
fn candles_pool_is_left_alone_once_there_are_threads() {
    // The test harness runs this beside its own main thread.
    assert!(!balgrad_kernels::rest_candle_pool());
}
