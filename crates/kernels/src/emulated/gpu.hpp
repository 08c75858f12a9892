// Runs GPU kernels on the CPU. The threads of a block are fibers that take turns, each from one barrier to the next; a seed lets
// some warps rest for a while, so that what depends on the order shows: it lacks a barrier. Blocks run one after another.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>

namespace emulated {
constexpr unsigned THREADS = 256, WARP = 32, STACK = 1 << 16;

struct Fiber {
    ucontext_t context;
    bool done;
};
static Fiber fibers[THREADS];
static char stacks[THREADS][STACK];
static ucontext_t scheduler;
static unsigned current, progress, seed;
static void (*body)(void *);
static void *argument;

struct Barrier {
    unsigned arrived, turn;
    void wait(unsigned count) {
        progress++;
        unsigned mine = turn;
        if (++arrived == count) {
            arrived = 0;
            turn++;
        } else {
            while (turn == mine) swapcontext(&fibers[current].context, &scheduler);
        }
    }
};
static Barrier block, warps[THREADS / WARP];
template <typename T> T lanes[THREADS];

static void fiber() {
    body(argument);
    fibers[current].done = true;
    progress++;
}

// One block of the grid; `enter` tells the device's own variables which thread goes on.
template <typename Enter>
static void run_block(Enter enter) {
    for (unsigned t = 0; t < THREADS; t++) {
        getcontext(&fibers[t].context);
        fibers[t].context.uc_stack.ss_sp = stacks[t];
        fibers[t].context.uc_stack.ss_size = STACK;
        fibers[t].context.uc_link = &scheduler;
        fibers[t].done = false;
        makecontext(&fibers[t].context, fiber, 0);
    }
    unsigned idle = 1, resting = 0;
    for (bool left = true; left;) {
        left = false;
        unsigned before = progress;
        // Who rests does so until the others can go no further.
        if (seed && idle) {
            seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
            resting = seed;
        }
        for (current = 0; current < THREADS; current++) {
            if (fibers[current].done) continue;
            left = true;
            if (resting >> (current / WARP) & 1) continue;
            enter(current);
            swapcontext(&scheduler, &fibers[current].context);
        }
        idle = progress == before ? idle + 1 : 0;
        if (left && idle > 100) {
            fputs("a barrier that some thread of the block never reaches\n", stderr);
            abort();
        }
    }
}

// What lane `lane` of this thread's warp holds in `x`; every thread of the warp calls.
template <typename T>
static T from_lane(T x, unsigned lane) {
    Barrier &warp = warps[current / WARP];
    lanes<T>[current] = x;
    warp.wait(WARP);
    T other = lanes<T>[current / WARP * WARP + lane];
    warp.wait(WARP);
    return other;
}
} // namespace emulated
