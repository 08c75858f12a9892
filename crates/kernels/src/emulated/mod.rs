//! GPU kernels compiled for the CPU, for tests on machines without the device: see `gpu.hpp`. Needs a C++ compiler (`CXX`, or
//! `c++`).

#![allow(clippy::unwrap_used)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A compiled source. It stays loaded.
pub(crate) struct Library(*mut c_void);

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

impl Library {
    /// Compiles `source` of this crate's folder `src/emulated`; `None`, with a line that says so, where there is no compiler.
    pub(crate) fn compile(source: &str) -> Option<Self> {
        // balgrad-nn includes this file too.
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/emulated");
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/src");
        let kernels = if kernels.is_dir() { kernels } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("src") };
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let library = std::env::temp_dir().join(format!("balgrad-{source}-{process}-{count}.so"));
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let mut command = Command::new(&compiler);
        command.args(["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w"]);
        command.arg("-I").arg(kernels.join("emulated")).arg("-I").arg(kernels.join("cuda"));
        command.arg("-o").arg(&library).arg(own.join(source));
        match command.status() {
            Err(error) => {
                eprintln!("skipped: {source} needs a C++ compiler, and `{compiler}` does not start: {error}");
                return None;
            }
            Ok(status) => assert!(status.success(), "{source} does not compile"),
        }
        let path = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: a library that has just been built, without constructors.
        let handle = unsafe { dlopen(path.as_ptr(), 2) };
        assert!(!handle.is_null(), "{} does not load", library.display());
        std::fs::remove_file(&library).unwrap();
        Some(Self(handle))
    }

    /// A function.
    ///
    /// # Safety
    /// `F` is the function's type.
    pub(crate) unsafe fn function<F: Copy>(&self, name: &str) -> F {
        let name = CString::new(name).unwrap();
        // SAFETY: a loaded library and a string.
        let address = unsafe { dlsym(self.0, name.as_ptr()) };
        assert!(!address.is_null() && size_of::<F>() == size_of_val(&address), "no {name:?}");
        // SAFETY: as the caller promises.
        unsafe { std::mem::transmute_copy(&address) }
    }

    /// Runs `kernel` once for each thread of a grid; `seed` tells in which order, 0 is that of their numbers.
    pub(crate) fn launch<F: Fn()>(&self, (x, y): (u32, u32), seed: u32, kernel: F) {
        extern "C" fn body<F: Fn()>(kernel: *mut c_void) {
            // SAFETY: the closure outlives the launch.
            unsafe { (*kernel.cast::<F>())() }
        }
        type Launch = extern "C" fn(u32, u32, u32, extern "C" fn(*mut c_void), *const c_void);
        // One at a time: the libraries of tests that run side by side share their fibers.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as `launch` of the headers is declared.
        let launch: Launch = unsafe { self.function("launch") };
        launch(x, y, seed, body::<F>, (&raw const kernel).cast());
    }
}
