// Small checkpoints for the tests of checkpoints.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <tendril/core/safetensors.h>
#include <tendril/trainer/checkpoint/checkpoint_folder.h>
#include <tendril/trainer/checkpoint/checkpoint_writer.h>

#include "../file_tools.h"
#include "../process_tools.h"

namespace tendril::testing {

/// Three files, one of them in a folder of its own, that all tell `version`.
inline void write_sample(const std::filesystem::path& folder, int version = 1) {
  CheckpointWriter writer(folder);
  const float number = static_cast<float>(version);
  writer.tensors("model.safetensors", {{"w", Tensor::from<float>({number, -number}, {2})}});
  writer.text("trainer_state.json", "{\"global_step\": " + std::to_string(version) + "}\n");
  writer.text("callbacks/own.txt", std::to_string(version));
  writer.commit();
}

/// The version that all three files tell; -1 when they disagree.
inline int sample_version(const std::filesystem::path& folder) {
  const int version = std::stoi(read_bytes((folder / "callbacks/own.txt").string()));
  const auto tensors = load_safetensors((folder / "model.safetensors").string());
  const bool same =
      read_bytes((folder / "trainer_state.json").string()) ==
          "{\"global_step\": " + std::to_string(version) + "}\n" &&
      tensors.at("w").to_vector<float>() ==
          std::vector<float>{static_cast<float>(version), -static_cast<float>(version)};
  return same ? version : -1;
}

}  // namespace tendril::testing
