// What the benchmarks of training steps share: timing, memory and the line that
// compare_pytorch.py reads.
#pragma once

#include <sys/resource.h>
#include <tendril/core/allocator.h>
#include <tendril/core/cpu/isa.h>
#include <tendril/core/cuda.h>
#include <tendril/core/threads.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace tendril::bench {

struct StepTiming {
  double median_seconds = 0.0;  // what a quiet machine gives; other programs only make steps slower
  int64_t peak_bytes = 0;       // of tensors, after the warm-up
  int64_t system_allocations = 0;  // after the warm-up; 0 in a steady training loop
  Device device;
};

/// Calls step() warmup + steps times and times the last `steps` of them; on a GPU in batches
/// between which the host waits, so that within a batch the GPU need not.
template <class Step>
StepTiming time_steps(int64_t warmup, int64_t steps, const Step& step,
                      Device device = Device::cpu()) {
  using Clock = std::chrono::steady_clock;
  const auto wait = [device] {
    if (device.is_cuda()) cuda::synchronize(device);
  };
  for (int64_t i = 0; i < warmup; ++i) step();
  wait();
  reset_peak_memory_stats(device);
  const int64_t allocations = memory_stats(device).system_allocations;
  const int64_t batch = device.is_cuda() ? std::max<int64_t>(1, steps / 5) : 1;
  std::vector<double> seconds;
  for (int64_t done = 0; done < steps; done += batch) {
    const int64_t count = std::min(batch, steps - done);
    const auto start = Clock::now();
    for (int64_t i = 0; i < count; ++i) step();
    wait();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count() /
                      static_cast<double>(count));
  }
  const auto middle = seconds.begin() + static_cast<int64_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  const MemoryStats stats = memory_stats(device);
  return {*middle, stats.peak_bytes, stats.system_allocations - allocations, device};
}

/// `flops` and `tokens` (or samples) of one step.
inline void print_timing(const StepTiming& timing, double flops, double tokens, bool json) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double resident = static_cast<double>(usage.ru_maxrss) * 1024.0;
  const double rate = flops / timing.median_seconds * 1e-9;
  if (json) {
    std::printf(
        "{\"step_seconds\": %.9f, \"tokens_per_second\": %.1f, \"model_gflops\": %.2f, "
        "\"peak_bytes\": %lld, \"resident_bytes\": %.0f, \"system_allocations\": %lld, "
        "\"threads\": %d, \"device\": \"%s\"}\n",
        timing.median_seconds, tokens / timing.median_seconds, rate,
        static_cast<long long>(timing.peak_bytes), resident,
        static_cast<long long>(timing.system_allocations), num_threads(),
        detail::concat(timing.device).c_str());
    return;
  }
  constexpr double kMiB = 1 << 20;
  if (timing.device.is_cuda())
    std::printf("GPU            %s\n", cuda::properties(timing.device).name.c_str());
  std::printf(
      "threads        %d, kernels for %s\nstep           %.4f ms (median)\ntokens/s       %.0f\n"
      "model GFLOP/s  %.1f\npeak memory    %.1f MiB in tensors, %.1f MiB resident\n"
      "asked of the system after the warm-up: %lld times\n",
      num_threads(), cpu::isa_name(), timing.median_seconds * 1e3, tokens / timing.median_seconds,
      rate, static_cast<double>(timing.peak_bytes) / kMiB, resident / kMiB,
      static_cast<long long>(timing.system_allocations));
}

}  // namespace tendril::bench
