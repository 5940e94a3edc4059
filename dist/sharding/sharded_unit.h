// Private to dist: parameters that are gathered, released and reduced together.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <tendril/dist/fully_sharded.h>

namespace tendril::dist {

struct ShardedParameter {
  ShardInfo info;
  Tensor whole;                // the model's handle, whose memory is there on demand
  Tensor memory;               // what it reads then: (shape), in the dtype of computing
  bool resident = false;       // `memory` always exists, and the part lies in it
  uint32_t whole_version = 0;  // of the handle's memory when it was gathered
  uint32_t part_version = 0;   // of the part then
};

class ShardedUnit {
 public:
  enum class State { released, gathering, gathered };

  ShardedUnit(std::string name, std::vector<ShardedParameter> parameters)
      : name_(std::move(name)), parameters_(std::move(parameters)) {}

  const std::string& name() const { return name_; }
  std::vector<ShardedParameter>& parameters() { return parameters_; }
  const std::vector<ShardedParameter>& parameters() const { return parameters_; }
  State state() const { return state_; }
  /// Whether an operation has read it since it was gathered, and the last that did.
  bool used = false;
  uint64_t last_operation = 0;

  /// Starts to put the parameters together. Collective.
  void start_gather(ProcessGroup& shard_group);
  void finish_gather();
  /// Frees what is not resident; what was gathered counts no more. Error when somebody has written
  /// into a gathered parameter. Waits for a gathering that runs.
  void release();
  /// Whether parts have changed since they were gathered.
  bool is_stale() const;
  int64_t gathered_bytes() const;

 private:
  void require_unwritten() const;

  std::string name_;
  std::vector<ShardedParameter> parameters_;
  State state_ = State::released;
  Work work_;
};

}  // namespace tendril::dist
