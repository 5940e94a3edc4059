// Weights and optimizer state of a sharded run, to and from checkpoints that any number of
// processes wrote and any number reads.
#pragma once

#include <filesystem>
#include <vector>

#include <tendril/core/named_tensor.h>
#include <tendril/dist/fully_sharded.h>
#include <tendril/dist/sharded_checkpoint.h>

namespace tendril {

/// This process's parts, and buffers.
std::vector<dist::ShardedTensor> model_pieces(const dist::FullySharded& model,
                                              const nn::Module& module);
/// Replaces the parts and buffers by what a folder of shards holds. Every process reads its rows
/// alone.
void load_model_pieces(dist::FullySharded& model, nn::Module& module,
                       const std::filesystem::path& folder);

/// What an optimizer of the parts keeps: "<parameter>.<state>".
std::vector<dist::ShardedTensor> optimizer_pieces(const std::vector<dist::ShardInfo>& shards,
                                                  const StateDict& state);
/// The state for these parts, from a folder of shards or, when it is a file, from one safetensors
/// file with whole tensors.
StateDict read_optimizer_pieces(const std::vector<dist::ShardInfo>& shards,
                                const std::filesystem::path& path);

/// All tensors of a folder of shards, whole: for one process.
StateDict read_whole(const std::filesystem::path& folder);

}  // namespace tendril
