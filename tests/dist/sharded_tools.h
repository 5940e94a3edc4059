// Tensors cut into rows, for the tests of sharded checkpoints.
#pragma once

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <tendril/core/named_tensor.h>
#include <tendril/dist/in_process.h>
#include <tendril/dist/sharded_checkpoint.h>

#include "../file_tools.h"

namespace tendril::testing {

/// Numbers that tell `version` and their places; any dtype.
inline Tensor numbered(const Shape& shape, DType dtype, int version = 0) {
  Tensor result = Tensor::empty(shape, dtype);
  visit_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    int64_t place = version;
    for (T& number : result.span<T>()) {
      if constexpr (std::is_same_v<T, bool>)
        number = (place++ * 7) % 3 == 0;
      else
        number = static_cast<T>(static_cast<float>(++place % 200));
    }
  });
  return result;
}

/// All dtypes and the shapes that are easy to get wrong: no axes, no rows, empty rows, two rows for
/// more ranks; a name that is not ASCII.
inline StateDict sample_tensors(int version = 0) {
  const auto tensor = [&](const Shape& shape, DType dtype) {
    return numbered(shape, dtype, version);
  };
  return {{"model.weight", tensor({7, 3}, f32)},
          {"model.half", tensor({5, 2, 2}, bf16)},
          {"model.other half", tensor({2, 4}, f16)},
          {"optimizer.step", tensor({}, i64)},
          {"optimizer.scale", tensor({}, f64)},
          {"ids", tensor({6, 1}, i32)},
          {"bytes", tensor({9}, u8)},
          {"mask", tensor({5, 1, 3}, bool_)},
          {"no rows", tensor({0, 4}, f32)},
          {"empty rows", tensor({3, 0}, f64)},
          {"gr\xC3\xB6\xC3\x9F"
           "e \"\\\n\xF0\x9F\x8C\xB1",
           tensor({2, 3}, f32)}};
}

/// Rows [begin, end), in the same memory.
inline Tensor rows_of(const Tensor& whole, int64_t begin, int64_t end) {
  Shape shape = whole.shape();
  shape[0] = end - begin;
  const int64_t offset = whole.offset() + begin * whole.strides()[0];
  return Tensor::view(whole.storage(), offset, shape, whole.strides(), whole.dtype());
}

/// Where rank `rank` of `ranks` begins: evenly, or (uneven) early ranks have less than late ones.
inline int64_t cut_at(int64_t rows, int rank, int ranks, bool uneven) {
  if (!uneven) return rows * rank / ranks;
  return rows * rank * rank / (static_cast<int64_t>(ranks) * ranks);
}

/// What a rank has of `whole`. Tensors without axes it has whole.
inline std::vector<dist::ShardedTensor> cut(const StateDict& whole, int rank, int ranks,
                                            bool uneven = false) {
  std::vector<dist::ShardedTensor> result;
  for (const auto& [name, tensor] : whole) {
    if (tensor.rank() == 0) {
      result.push_back({name, tensor, tensor.shape(), 0});
      continue;
    }
    const int64_t begin = cut_at(tensor.size(0), rank, ranks, uneven);
    const int64_t end = cut_at(tensor.size(0), rank + 1, ranks, uneven);
    result.push_back({name, rows_of(tensor, begin, end), tensor.shape(), begin});
  }
  return result;
}

/// Saves `whole` with as many ranks.
inline void save_cut(const std::filesystem::path& folder, const StateDict& whole, int ranks,
                     bool uneven = false, const std::map<std::string, std::string>& metadata = {}) {
  dist::run_ranks(ranks, [&](const std::shared_ptr<dist::ProcessGroup>& group) {
    dist::save_sharded(*group, folder, cut(whole, group->rank(), ranks, uneven), metadata);
  });
}

/// Whether both have the same dtype, shape and bits. Contiguous ones.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.nbytes() == 0 ||
          std::memcmp(a.raw_data(), b.raw_data(), static_cast<size_t>(a.nbytes())) == 0);
}

/// Whether a checkpoint is `whole` and nothing else.
inline bool holds(const dist::ShardedCheckpoint& checkpoint, const StateDict& whole) {
  bool same = checkpoint.tensors().size() == whole.size();
  for (const auto& [name, tensor] : whole)
    same = same && checkpoint.contains(name) && same_bits(checkpoint.read(name), tensor);
  return same;
}

/// What every rank's Error says ("" for a rank without one) when `ranks` ranks save.
inline std::vector<std::string> errors_of_save(
    const std::filesystem::path& folder, int ranks,
    const std::function<std::vector<dist::ShardedTensor>(int rank)>& tensors,
    const std::map<std::string, std::string>& metadata = {}) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  dist::run_ranks(ranks, [&](const std::shared_ptr<dist::ProcessGroup>& group) {
    const auto mine = tensors(group->rank());
    errors[static_cast<size_t>(group->rank())] =
        error_of([&] { dist::save_sharded(*group, folder, mine, metadata); });
  });
  return errors;
}

}  // namespace tendril::testing
