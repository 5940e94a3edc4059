// Ranks that are threads of one process: for tests and for teaching.
//
//   dist::run_ranks(4, [](const std::shared_ptr<dist::ProcessGroup>& group) {
//     manual_seed(1);                             // every thread has a generator of its own
//     Tensor x = full({3}, group->rank());
//     group->all_reduce(x).wait();                // 0 + 1 + 2 + 3
//   });
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include <tendril/dist/process_group.h>

namespace tendril::dist {

struct InProcessOptions {
  /// Each operation takes at least latency + bytes sent / bandwidth: a link to imagine. 0: as fast
  /// as memory.
  std::chrono::nanoseconds latency{0};
  double bytes_per_second = 0.0;
  /// A rank that does not take part within this time makes the operation fail on the others.
  std::chrono::milliseconds timeout{60'000};
};

/// Calls body(group) in `size` threads, each with its own rank, and returns when all have. The
/// first Error is thrown again here; it makes the other ranks' operations fail, so that none waits
/// for ever.
TENDRIL_API void run_ranks(int size,
                           const std::function<void(const std::shared_ptr<ProcessGroup>&)>& body,
                           const InProcessOptions& options = {});

}  // namespace tendril::dist
