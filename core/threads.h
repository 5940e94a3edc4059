// Threads. Work is cut into chunks whose borders depend on the work alone, never on the number of
// threads: every sum is formed in the same order whatever the machine, so results are bit-equal.
#pragma once

#include <cstdint>
#include <type_traits>

#include <tendril/core/api.h>

namespace tendril {

/// How many threads an operation may use; at first what OpenMP says (OMP_NUM_THREADS, else all
/// cores).
TENDRIL_API int num_threads();
/// Caps it for the whole process; 1 keeps all work in the calling thread. Error below 1.
TENDRIL_API void set_num_threads(int count);

namespace detail {

// A non-owning reference to a callable; avoids std::function's allocation on a hot path.
class ChunkBody {
 public:
  template <class Body>
  ChunkBody(Body& body)
      : object_(const_cast<void*>(static_cast<const void*>(&body))),
        call_([](void* object, int64_t begin, int64_t end) {
          (*static_cast<Body*>(object))(begin, end);
        }) {}
  void operator()(int64_t begin, int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, int64_t, int64_t);
};

TENDRIL_API void parallel_chunks(int64_t count, int64_t chunk, ChunkBody body);

/// Whether the calling thread runs a chunk beside other threads (the embedder's OpenMP threads
/// count too).
bool in_parallel();

}  // namespace detail

/// Calls body(begin, end) for [0, chunk), [chunk, 2 chunk), ... up to `count`, on several threads.
/// An exception thrown by any chunk is rethrown here, after all chunks have stopped. A call from
/// inside another parallel_for runs in the calling thread.
template <class Body>
void parallel_for(int64_t count, int64_t chunk, Body&& body) {
  detail::parallel_chunks(count, chunk, detail::ChunkBody(body));
}

}  // namespace tendril
