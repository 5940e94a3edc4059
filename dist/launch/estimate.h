// Memory and communication of data parallel training, before it starts.
//
// P parameters on N ranks; w, g, s bytes per parameter of weights, gradients and optimizer state
// (with its f32 masters). Activations come on top.
//   ddp                  (w + g + s) P
//   zero1                (w + g) P + s P / N
//   zero2, shard_grad_op w P + (g + s) P / N
//   zero3, full_shard    (w + g + s) P / N, and two units gathered at a time
//   hybrid_*             the same with N replaced by the ranks of one machine
// Each rank sends, and receives, per optimizer step of k micro-batches (F = (N - 1) / N):
//   ddp 2 g P F;  zero1 (g + w) P F;  zero2 (k g + w) P F;  zero3 (2 k w + k g) P F
//   hybrid_*: the same within a machine, and 2 g P / G (M - 1) / M between M machines of G ranks
#pragma once

#include <string>
#include <vector>

namespace tendril::launch {

/// Bytes per parameter.
struct Precision {
  double weight = 2, gradient = 2, master = 4;
  double moment = 4;         // of a number of optimizer state
  double wire_weight = 2;    // as weights are gathered
  double wire_gradient = 2;  // as gradients are reduced
};

/// bf16, fp16 (16-bit weights and gradients, f32 masters and moments), fp32, bf16_pure (all of it
/// 16 bits), autocast (f32 weights and gradients, gathered as 16 bits). Error that lists them.
Precision precision_from(const std::string& name);

/// Bytes of state per parameter, without masters. Error that lists the names.
double optimizer_bytes(const std::string& name, const Precision& precision);

struct EstimateOptions {
  double parameters = 0;
  double largest_unit = 0;  // parameters; 0: not known
  Precision precision = {};
  double state = 8;  // bytes per parameter
  int64_t ranks = 1, machines = 1, micro_batches = 1;
  bool offload_optimizer = false, offload_params = false;
  double link_gbps = 0;     // gigabits per second that a rank sends within a machine; 0: not known
  double network_gbps = 0;  // that a machine sends to others
};

/// In bytes and seconds, per rank.
struct Estimate {
  std::string strategy;
  double weights = 0, gradients = 0, optimizer = 0, gathered = 0;  // on the device
  double host = 0;
  double wire = 0;          // sent within a machine, or by a ring through all ranks
  double wire_between = 0;  // sent between machines besides (hybrid)
  double seconds = -1;      // of all of it; -1: the speed is not known

  double device() const { return weights + gradients + optimizer + gathered; }
};

/// ddp, no_shard, zero0..zero3, full_shard, shard_grad_op, hybrid_shard, hybrid_shard_zero2.
Estimate estimate(const std::string& strategy, const EstimateOptions& options);

/// `tendril-launch estimate`: the table that the words after it ask for.
std::string estimate_command(const std::vector<std::string>& words);

}  // namespace tendril::launch
