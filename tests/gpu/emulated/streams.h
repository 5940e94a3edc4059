// Streams run what they are given at once; those that record keep it for a graph.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "include/cuda_runtime_api.h"

struct EmulatedGraph {
  std::vector<std::function<void()>> nodes;
  bool broken = false;                     // something was done that a graph cannot hold
  std::vector<EmulatedStream*> recorders;  // that record into it; the first began
};

struct EmulatedGraphExec {
  std::vector<std::function<void()>> nodes;
};

struct EmulatedStream {
  int device = 0;
  EmulatedGraph* graph = nullptr;  // that it records into
};

struct EmulatedEvent {
  int device = 0;
  bool timed = true, recorded = false;
  EmulatedGraph* graph = nullptr;  // that it was recorded into
  std::chrono::steady_clock::time_point time;
  int64_t ready_at = 0;  // the number of the question to which cudaEventQuery says that it is there
};

namespace emulated {

/// For events that come after, work has taken so much longer than it has.
void pretend_to_take(std::chrono::seconds time);

/// The GPU on which the stream works; for null the calling thread's.
int device_of(cudaStream_t stream);
/// An error is raised where not: kernels and events need the GPU of their stream to be current.
bool is_of_current_device(cudaStream_t stream);

}  // namespace emulated
