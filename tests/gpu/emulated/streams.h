// Streams run what they are given at once; those that record keep it for a graph.
#pragma once

#include <chrono>
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
  EmulatedGraph* graph = nullptr;  // that it records into
};

struct EmulatedEvent {
  bool timed = true, recorded = false;
  EmulatedGraph* graph = nullptr;  // that it was recorded into
  std::chrono::steady_clock::time_point time;
};
