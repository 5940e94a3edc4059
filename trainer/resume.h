// Where a run starts from.
#pragma once

#include <string>
#include <utility>

#include <tendril/core/api.h>

namespace tendril {

/// What Trainer::train() takes.
struct Resume {
  enum class From { beginning, latest, latest_if_any, path };
  From from = From::beginning;
  std::string path;

  Resume() = default;
  /// true: the latest checkpoint, as in Hugging Face's train(resume_from_checkpoint=True).
  Resume(bool latest) : from(latest ? From::latest : From::beginning) {}
  Resume(const char* folder) : Resume(std::string(folder)) {}
  Resume(std::string folder) : from(From::path), path(std::move(folder)) {}

  /// The latest valid checkpoint of output_dir; Error when there is none.
  static Resume latest() { return Resume(true); }
  /// The same, or from the beginning when output_dir holds no checkpoint at all: for jobs that are
  /// started again until they are done.
  static Resume latest_if_any() {
    Resume resume;
    resume.from = From::latest_if_any;
    return resume;
  }
};

}  // namespace tendril
