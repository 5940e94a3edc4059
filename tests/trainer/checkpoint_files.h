// Small checkpoints for the tests of checkpoints.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <tendril/core/safetensors.h>
#include <tendril/core/threads.h>
#include <tendril/trainer/checkpoint/checkpoint_folder.h>
#include <tendril/trainer/checkpoint/checkpoint_writer.h>

#include "../file_tools.h"

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

/// Names of all entries of a folder, hidden ones too, sorted.
inline std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Runs `body` in a forked process that ends with what it returns, or 99 after an exception, and
/// never comes back to the tests.
template <class Body>
pid_t start_child(Body&& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  int status = 99;
  try {
    const SerialScope serial;  // the threads of OpenMP did not come along
    status = body();
  } catch (...) {
  }
  ::_exit(status);
}

/// Waits; the exit status, or minus the signal that ended it.
inline int end_of_child(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return 98;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace tendril::testing
