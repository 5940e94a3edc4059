#include <tendril/trainer/data/token_file_dataset.h>

#include <utility>

#include <tendril/core/error.h>
#include <tendril/core/file.h>

namespace tendril {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 31;  // a vocabulary can have

TokenWindows::Tokens open_tokens(const std::string& path, const TokenFileOptions& options) {
  TENDRIL_CHECK(options.vocab_size >= 0 && options.vocab_size <= kMostTokens,
                "[TokenFileDataset] vocab_size must be in [0, 2^31]; got ", options.vocab_size);
  std::shared_ptr<MappedFile> file = MappedFile::open(path);
  const auto width = static_cast<size_t>(options.width);
  TENDRIL_CHECK(width == 1 || width == 2 || width == 4,
                "[TokenFileDataset] no such token width: ", width, " bytes");
  TENDRIL_CHECK(file->size() % width == 0, "[TokenFileDataset] ", path, " has ", file->size(),
                " bytes, which is no whole number of ", width,
                "-byte tokens; is it complete, and of this width?");
  const void* const data = file->data();
  const auto count = static_cast<int64_t>(file->size() / width);
  return {.owner = std::move(file),
          .data = data,
          .count = count,
          .width = options.width,
          .vocab_size = options.vocab_size == 0 ? kMostTokens : options.vocab_size,
          .origin = path};
}

}  // namespace

TokenFileDataset::TokenFileDataset(const std::string& path, int64_t T,
                                   const TokenFileOptions& options)
    : windows_(open_tokens(path, options), T, options.stride) {}

}  // namespace tendril
