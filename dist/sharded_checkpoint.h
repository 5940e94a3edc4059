// Checkpoints that do not depend on the number of ranks that wrote them. In a folder:
//
//   shard-00000-of-00004.safetensors   what rank 0 holds, nothing twice, ...
//   manifest.json                      for every tensor: dtype, whole shape, and per piece the file
//                                      and the rows [begin, end) it holds
//
//   dist::save_sharded(*group, "step-500", {{"model.w", part, {1000, 64}, first_row}, ...});
//   const auto checkpoint = dist::ShardedCheckpoint::open("step-500");
//   checkpoint.read_into({"model.w", other_part, {1000, 64}, other_first_row});
//
// Reading looks into the manifest and maps only the files that hold rows this rank wants: any
// number of ranks, any strategy, one process included. docs/sharded_checkpoints.md has the format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/tensor.h>
#include <tendril/dist/process_group.h>

namespace tendril::dist {

/// Rows [row_begin, row_begin + local.size(0)) of a tensor. A tensor without axes, or one that a
/// rank has whole, is all of it: row_begin 0 and whole_shape = local.shape().
struct ShardedTensor {
  std::string name;
  Tensor local;  // may have no rows
  Shape whole_shape;
  int64_t row_begin = 0;
};

/// What a manifest says of one tensor.
struct StoredTensor {
  DType dtype = f32;
  Shape shape;
  struct Rows {
    int64_t begin = 0, end = 0;
    std::string file;
  };
  std::vector<Rows> rows;  // without gaps and overlaps, by begin; [0, 1) for tensors without axes
};

/// Collective. Every rank writes its rows; rows that several ranks give are written by the first.
/// `metadata` of rank 0 goes into the manifest. All ranks see the same folder. All or nothing:
/// files are synced and checksummed, and the manifest appears last, when all ranks are done. A
/// checkpoint that is in the folder already stays whole until then, and goes afterwards; files that
/// are not its own stay. One save into a folder at a time.
///
/// Error on all ranks when one fails, for rows that leave gaps or overlap without being the same,
/// for shapes or dtypes that differ between ranks, and for a manifest.json of something else.
TENDRIL_API void save_sharded(ProcessGroup& group, const std::filesystem::path& folder,
                              const std::vector<ShardedTensor>& tensors,
                              const std::map<std::string, std::string>& metadata = {});

/// An open checkpoint. Not collective: ranks read on their own.
class TENDRIL_API ShardedCheckpoint {
 public:
  /// Error that names the file for a manifest that is not valid, and files that are missing, too
  /// short or (with verify) damaged.
  static ShardedCheckpoint open(const std::filesystem::path& folder, bool verify = false);

  const std::map<std::string, StoredTensor>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;
  bool contains(const std::string& name) const { return tensors().count(name) > 0; }
  /// Copies rows [begin, end) of a tensor; of all of it without an end. Error for unknown names and
  /// rows out of range.
  Tensor read(const std::string& name, int64_t begin = 0, std::optional<int64_t> end = {}) const;
  /// Fills `target.local`, of any device and strides, with its rows. Error when the stored shape or
  /// dtype differs.
  void read_into(const ShardedTensor& target) const;
  /// Bytes of tensors copied out of files so far, by this and all copies of the handle.
  int64_t bytes_read() const;

 private:
  struct Contents;
  explicit ShardedCheckpoint(std::shared_ptr<Contents> contents) : contents_(std::move(contents)) {}
  std::shared_ptr<Contents> contents_;
};

/// Puts all tensors together into one safetensors file, a piece at a time in memory; optionally
/// with another dtype for floating-point ones, and only names that begin with `prefix` (which is
/// removed). Error when there are none. The program tendril-merge calls it.
TENDRIL_API void merge_sharded(const std::filesystem::path& folder,
                               const std::filesystem::path& file, std::optional<DType> dtype = {},
                               const std::string& prefix = "");

}  // namespace tendril::dist
