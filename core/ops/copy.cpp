#include <tendril/core/ops/copy.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <tendril/core/cpu/half_convert.h>
#include <tendril/core/cuda/memory.h>
#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy_plan.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/strided.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

constexpr int64_t kChunk = 32768;  // elements per parallel piece
constexpr int64_t kTile = 32;      // a 32 x 32 tile of f64 and its transpose fit in the L1 cache

// A two-dimensional piece of the work; strides in elements.
struct Block {
  int64_t rows, columns;
  int64_t to_row, to_column, from_row, from_column;
};

using BlockFunction = void (*)(void* to, const void* from, const Block& block);

template <class To, class From>
void convert_run(To* __restrict to, const From* __restrict from, int64_t count) {
  if constexpr (std::is_same_v<To, From>) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(To));
  } else if constexpr ((is_half<To> && std::is_same_v<From, float>) ||
                       (is_half<From> && std::is_same_v<To, float>)) {
    tendril::cpu::convert_run(from, to, count);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = convert<To>(from[i]);
  }
}

// Rows of the destination are columns of the source. Each side is read or written in whole runs and
// the turn happens in a buffer in the L1 cache: with strides of a power of two, the lines of a tile
// would otherwise evict each other.
template <class To, class From>
void transpose_block(To* to, const From* from, const Block& block) {
  To turned[kTile][kTile], run[kTile];
  for (int64_t column = 0; column < block.columns; ++column) {
    convert_run(run, from + column * block.from_column, block.rows);
    for (int64_t row = 0; row < block.rows; ++row) turned[row][column] = run[row];
  }
  for (int64_t row = 0; row < block.rows; ++row)
    std::memcpy(to + row * block.to_row, turned[row],
                static_cast<size_t>(block.columns) * sizeof(To));
}

template <class To, class From>
void convert_block(void* to_memory, const void* from_memory, const Block& block) {
  To* const to = static_cast<To*>(to_memory);
  const From* const from = static_cast<const From*>(from_memory);
  const int64_t count = block.columns, to_step = block.to_column, from_step = block.from_column;
  if (to_step == 1 && block.from_row == 1 && from_step != 1 && from_step != 0 &&
      block.rows <= kTile && count <= kTile)
    return transpose_block(to, from, block);
  for (int64_t row = 0; row < block.rows; ++row) {
    To* const target = to + row * block.to_row;
    const From* const source = from + row * block.from_row;
    if (to_step == 1 && from_step == 1)
      convert_run(target, source, count);
    else if (to_step == 1 && from_step == 0)
      std::fill_n(target, count, convert<To>(*source));
    else
      for (int64_t i = 0; i < count; ++i) target[i * to_step] = convert<To>(source[i * from_step]);
  }
}

BlockFunction block_function(DType to, DType from) {
  if (to == from) {  // bits are moved as they are
    switch (size_of(to)) {
      case 8:
        return convert_block<uint64_t, uint64_t>;
      case 4:
        return convert_block<uint32_t, uint32_t>;
      case 2:
        return convert_block<uint16_t, uint16_t>;
      default:
        return convert_block<uint8_t, uint8_t>;
    }
  }
  return visit_dtype(to, [&]<class To>(TypeTag<To>) {
    return visit_dtype(from, [&]<class From>(TypeTag<From>) -> BlockFunction {
      if constexpr (std::is_same_v<To, From>)
        return nullptr;  // handled above
      else
        return convert_block<To, From>;
    });
  });
}

struct Side {
  char* data;
  int64_t element;  // bytes
};

// Cuts the two innermost axes into tiles; the grid of tiles times the outer axes is shared among
// threads.
void run(const CopyPlan& plan, BlockFunction function, Side to, Side from) {
  const CopyAxis row = plan.axes[plan.rank - 2], column = plan.axes[plan.rank - 1];
  const bool transposed = plan.transposed();
  const int64_t tile_columns = std::min(column.size, transposed ? kTile : kChunk);
  const int64_t tile_rows =
      std::min(row.size, transposed ? kTile : std::max<int64_t>(1, kChunk / tile_columns));
  std::array<CopyAxis, Shape::kMaxRank + 2> grid = plan.axes;
  const auto tiled = [](const CopyAxis& axis, int64_t tile) {
    return CopyAxis{(axis.size + tile - 1) / tile, axis.to * tile, axis.from * tile};
  };
  grid[plan.rank - 2] = tiled(row, tile_rows);
  grid[plan.rank - 1] = tiled(column, tile_columns);
  int64_t tiles = 1;
  for (int64_t i = 0; i < plan.rank; ++i) tiles *= grid[i].size;

  const int64_t tiles_per_chunk = std::max<int64_t>(1, kChunk / (tile_rows * tile_columns));
  parallel_for(tiles, tiles_per_chunk, [&](int64_t begin, int64_t end) {
    std::array<int64_t, Shape::kMaxRank + 2> index;
    int64_t to_offset = plan.to_shift, from_offset = plan.from_shift;
    for (int64_t axis = plan.rank - 1, rest = begin; axis >= 0; --axis) {
      index[axis] = rest % grid[axis].size;
      rest /= grid[axis].size;
      to_offset += index[axis] * grid[axis].to;
      from_offset += index[axis] * grid[axis].from;
    }
    for (int64_t tile = begin; tile < end; ++tile) {
      const Block block{std::min(tile_rows, row.size - index[plan.rank - 2] * tile_rows),
                        std::min(tile_columns, column.size - index[plan.rank - 1] * tile_columns),
                        row.to,
                        column.to,
                        row.from,
                        column.from};
      function(to.data + to_offset * to.element, from.data + from_offset * from.element, block);
      for (int64_t axis = plan.rank - 1; axis >= 0; --axis) {
        to_offset += grid[axis].to, from_offset += grid[axis].from;
        if (++index[axis] < grid[axis].size) break;
        to_offset -= grid[axis].to * grid[axis].size;
        from_offset -= grid[axis].from * grid[axis].size;
        index[axis] = 0;
      }
    }
  });
}

struct ByteRange {
  const char *begin, *end;
};

ByteRange touched_bytes(const Tensor& x) {
  int64_t low = 0, high = 1;
  for (int64_t i = 0; i < x.rank(); ++i)
    (x.strides()[i] < 0 ? low : high) += x.strides()[i] * (x.size(i) - 1);
  const char* data = static_cast<const char*>(x.raw_data());
  return {data + low * size_of(x.dtype()), data + high * size_of(x.dtype())};
}

bool overlap(const Tensor& a, const Tensor& b) {
  const ByteRange x = touched_bytes(a), y = touched_bytes(b);
  return x.begin < y.end && y.begin < x.end;
}

bool same_view(const Tensor& a, const Tensor& b) {
  return a.raw_data() == b.raw_data() && a.dtype() == b.dtype() && a.shape() == b.shape() &&
         a.strides() == b.strides();
}

// Both sides dense (or the source a single element, step 0): no plan is needed.
void run_dense(int64_t count, int64_t from_step, BlockFunction function, Side to, Side from) {
  parallel_for(count, kChunk, [&](int64_t begin, int64_t end) {
    function(to.data + begin * to.element, from.data + begin * from_step * from.element,
             {1, end - begin, 0, 1, 0, from_step});
  });
}

Side side(const Tensor& x) { return {static_cast<char*>(x.raw_data()), size_of(x.dtype())}; }

}  // namespace

namespace cpu {

void copy(const Tensor& destination, const Tensor& source) {
  const BlockFunction function = block_function(destination.dtype(), source.dtype());
  if (destination.shape() == source.shape() && destination.is_contiguous() &&
      source.is_contiguous())
    return run_dense(destination.numel(), 1, function, side(destination), side(source));
  const Strides from = broadcast_strides(source.shape(), source.strides(), destination.shape());
  run(CopyPlan(destination.shape(), destination.strides(), from), function, side(destination),
      side(source));
}

void fill(const Tensor& destination, double value) {
  ElementBytes element(destination.dtype(), value);
  const BlockFunction function = block_function(destination.dtype(), destination.dtype());
  const Side to = side(destination), from{element.bytes, to.element};
  if (destination.is_contiguous()) return run_dense(destination.numel(), 0, function, to, from);
  const Strides repeated = Strides::filled(destination.rank(), 0);
  run(CopyPlan(destination.shape(), destination.strides(), repeated), function, to, from);
}

}  // namespace cpu

namespace cuda {
void copy(const Tensor& destination, const Tensor& source);  // copy.cu
void fill(const Tensor& destination, double value);
}  // namespace cuda

namespace {

// Conversion happens where the source is, broadcasting where the destination is: what crosses is
// dense and no more than needed.
void copy_across(const Tensor& destination, const Tensor& source) {
  const Tensor from = contiguous(cast(source, destination.dtype()));
  const bool direct = destination.is_contiguous() && destination.shape() == from.shape();
  const Tensor to =
      direct ? destination : Tensor::empty(from.shape(), from.dtype(), destination.device());
#ifdef TENDRIL_WITH_CUDA
  tendril::cuda::transfer(to.raw_data(), to.device(), from.raw_data(), from.device(),
                          from.nbytes());
#else
  fail("[copy] built without CUDA; got tensors on ", to.device(), " and ", from.device());
#endif
  if (!direct) copy(destination, to);
}

}  // namespace

void copy(const Tensor& destination, const Tensor& source) {
  const Shape& shape = destination.shape();
  TENDRIL_CHECK(
      source.rank() <= shape.rank() && broadcast_shapes("copy", shape, source.shape()) == shape,
      "[copy] the source must broadcast to the destination; got ", source.shape(), " for ", shape);
  if (destination.numel() == 0) return;
  for (int64_t i = 0; i < shape.rank(); ++i)
    TENDRIL_CHECK(shape[i] == 1 || destination.strides()[i] != 0,
                  "[copy] the destination repeats elements along axis ", i, "; got shape ", shape,
                  " with strides ", destination.strides(), "; write to clone(x)");
  if (destination.device() != source.device()) return copy_across(destination, source);
  if (overlap(destination, source)) {
    if (same_view(destination, source)) return;
    const Tensor separate = clone(source);
    TENDRIL_ON_DEVICE(destination, copy(destination, separate));
    return;
  }
  TENDRIL_ON_DEVICE(destination, copy(destination, source));
}

void fill(const Tensor& destination, double value) {
  if (destination.numel() == 0) return;
  Shape shape = destination.shape();
  for (int64_t i = 0; i < shape.rank(); ++i)
    if (destination.strides()[i] == 0) shape[i] = 1;  // writing a repeated element once is enough
  const Tensor once = shape == destination.shape()
                          ? destination
                          : Tensor::view(destination.storage(), destination.offset(), shape,
                                         destination.strides(), destination.dtype());
  TENDRIL_ON_DEVICE(destination, fill(once, value));
}

Tensor raw(const Tensor& x) { return x.autograd_slot() ? x.detach() : x; }

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? raw(x) : clone(x); }

Tensor clone(const Tensor& x) {
  Tensor result = Tensor::empty(x.shape(), x.dtype(), x.device());
  copy(result, x);
  return result;
}

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return raw(x);
  Tensor result = Tensor::empty(x.shape(), dtype, x.device());
  copy(result, x);
  return result;
}

}  // namespace tendril::ops
