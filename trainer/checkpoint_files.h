// Private to the Trainer. What a Trainer's checkpoint holds, and how a run goes on from one.
//
//   model.safetensors, config.json    weights
//   optimizer.safetensors             what the optimizer has accumulated
//   scheduler.json, scaler.json       the schedule's step and state; the loss scaler (f16)
//   rng_state.json                    the generator of dropout and noise
//   progress.json                     position in the data, and the log window
//   callbacks.safetensors             tensors of callbacks, where they have any
//   trainer_state.json                as the Hugging Face Trainer writes it
//   training_args.json                for the record; a resumed run uses its own arguments
//   model/, optimizer/                instead, or beside model.safetensors: shards of several
//                                     processes (dist/sharded_checkpoint.h)
//   manifest.json                     sizes and checksums of all of them
#pragma once

#include <filesystem>

#include <tendril/core/file.h>
#include <tendril/core/json.h>

namespace tendril {

inline constexpr const char* kModel = "model.safetensors";
inline constexpr const char* kConfig = "config.json";
inline constexpr const char* kOptimizer = "optimizer.safetensors";
// Folders, of sharded runs.
inline constexpr const char* kModelShards = "model";
inline constexpr const char* kOptimizerShards = "optimizer";
inline constexpr const char* kCallbacks = "callbacks.safetensors";
inline constexpr const char* kScheduler = "scheduler.json";
inline constexpr const char* kScaler = "scaler.json";
inline constexpr const char* kRandom = "rng_state.json";
inline constexpr const char* kProgress = "progress.json";
inline constexpr const char* kState = "trainer_state.json";
inline constexpr const char* kArguments = "training_args.json";

inline Json read_json(const std::filesystem::path& path) {
  return Json::parse(read_text_file(path.string()), path.string());
}

}  // namespace tendril
