// Private to dist: what a group on the host needs from MPI or from threads: bytes, moved by calls
// that block, made by one thread, in the same order on all ranks. host_group.h makes a ProcessGroup
// of it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tendril::dist {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

class Transport {
 public:
  virtual ~Transport() = default;
  virtual const char* backend() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// send[r] goes to rank r, recv[r] comes from it; entry rank() is copied. Lists of blocks per
  /// rank, so that several tensors travel together without being packed by the caller. What one
  /// rank sends in a list of blocks the other receives in one with the same sizes.
  virtual void all_to_all(const std::vector<std::vector<ConstBytes>>& send,
                          const std::vector<std::vector<Bytes>>& recv) = 0;
  virtual void broadcast(const std::vector<Bytes>& blocks, int root) = 0;
  virtual void send(ConstBytes block, int to) = 0;
  virtual void recv(Bytes block, int from) = 0;
  virtual void barrier() = 0;
  virtual std::unique_ptr<Transport> split(int color) = 0;

  /// Called by any thread: what runs and what comes fails on all ranks.
  virtual void abort(const std::string& reason) = 0;
  /// What the calls that follow are part of, for messages: "all_reduce 17 in step 3".
  virtual void set_label(const std::string& label) = 0;
};

}  // namespace tendril::dist
