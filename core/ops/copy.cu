// Copies on a GPU. Dense ones of one dtype are left to the copy engine; the others are, in this
// order: a dense conversion, a transposition by tiles, a move in units as wide as the layouts
// allow, and one element after the other.
#include <tendril/core/ops/copy_plan.h>
#include <tendril/core/tensor.h>
#include <tendril/core/cuda/layout.cuh>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {
namespace {

using tendril::cuda::blocks_for;
using tendril::cuda::Source;
using tendril::cuda::Vector;

constexpr int kThreads = 256;

// x / divisor for x < 2^31 and 1 <= divisor < 2^31: the high half of a product, a sum and a shift.
// With 2^shift >= divisor, 2^32 + factor is 2^(32 + shift) / divisor and at most 1 more, so the
// quotient is at most x / 2^(32 + shift) < 1 / divisor too large: too little to reach an integer.
struct Division {
  uint32_t factor = 1, shift = 0;

  Division() = default;
  explicit Division(uint32_t divisor) {
    while ((uint64_t{1} << shift) < divisor) ++shift;
    factor = static_cast<uint32_t>((((uint64_t{1} << shift) - divisor) << 32) / divisor + 1);
  }
  __device__ uint32_t operator()(uint32_t x) const {
    const auto high = static_cast<uint32_t>((uint64_t{x} * factor) >> 32);
    return (high + x) >> shift;
  }
};

// Both offsets of the element with a position in the plan's order.
struct Walk {
  int rank = 0;
  bool small = true;  // fewer than 2^31 positions
  int64_t count = 1;
  CopyAxis axes[Shape::kMaxRank];
  Division by_size[Shape::kMaxRank];  // only where `small`

  // The first `axes_of_plan` axes.
  Walk(const CopyPlan& plan, int64_t axes_of_plan) : rank(static_cast<int>(axes_of_plan)) {
    for (int i = 0; i < rank; ++i) {
      axes[i] = plan.axes[static_cast<size_t>(i)];
      count *= axes[i].size;
    }
    small = count < (int64_t{1} << 31);
    for (int i = 0; i < rank && small; ++i)
      by_size[i] = Division(static_cast<uint32_t>(axes[i].size));
  }

  __device__ void find(int64_t position, int64_t& to, int64_t& from) const {
    to = from = 0;
    if (small) {
      auto rest = static_cast<uint32_t>(position);
#pragma unroll 1
      for (int i = rank - 1; i >= 0; --i) {
        const uint32_t next = by_size[i](rest);
        const int64_t index = rest - next * static_cast<uint32_t>(axes[i].size);
        to += index * axes[i].to;
        from += index * axes[i].from;
        rest = next;
      }
      return;
    }
#pragma unroll 1
    for (int i = rank - 1; i >= 0; --i) {
      const int64_t next = position / axes[i].size, index = position - next * axes[i].size;
      to += index * axes[i].to;
      from += index * axes[i].from;
      position = next;
    }
  }
};

// ---------------------------------------------------------------- dense conversions

// A thread converts kRuns runs of kRun elements, which a block's threads have side by side: the
// wider side of a run is 16 bytes. All of a block's loads are under way before the first is used.
template <class To, class From>
inline constexpr int kRun = 16 / static_cast<int>(std::max(sizeof(To), sizeof(From)));
constexpr int kRuns = 4;

template <class To, class From>
__global__ void __launch_bounds__(kThreads)
    convert_dense_kernel(To* to, const From* from, int64_t count) {
  constexpr int kSize = kRun<To, From>, kStep = kThreads * kSize;
  const int64_t begin = int64_t{blockIdx.x} * kRuns * kStep;
  const int64_t first = begin + threadIdx.x * kSize;
  if (begin + kRuns * kStep <= count) {
    Vector<From, kSize> in[kRuns];
#pragma unroll
    for (int i = 0; i < kRuns; ++i)
      in[i] = tendril::cuda::load_vector<From, kSize>(from + first + i * kStep);
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      Vector<To, kSize> out;
#pragma unroll
      for (int j = 0; j < kSize; ++j) out.v[j] = convert<To>(in[i].v[j]);
      tendril::cuda::store_vector<To, kSize>(to + first + i * kStep, out);
    }
  } else {
    for (int64_t i = begin + threadIdx.x; i < count; i += kThreads) to[i] = convert<To>(from[i]);
  }
}

template <class To, class From>
bool convert_dense(const Tensor& destination, const Tensor& source) {
  if (destination.dtype() != dtype_of<To>() || source.dtype() != dtype_of<From>()) return false;
  constexpr int kSize = kRun<To, From>;
  To* to = destination.data<To>();
  const From* from = source.data<From>();
  if (!tendril::cuda::aligned_for<To, kSize>(to) || !tendril::cuda::aligned_for<From, kSize>(from))
    return false;
  const int64_t count = source.numel();
  convert_dense_kernel<<<blocks_for(count, kThreads * kRuns * kSize), kThreads, 0,
                         tendril::cuda::stream(source.device())>>>(to, from, count);
  TENDRIL_CUDA_CHECK_LAUNCH("copy");
  return true;
}

// ---------------------------------------------------------------- transposition

constexpr int64_t kTile = 64;

struct Turn {
  CopyAxis row, column;  // the source is dense along rows' axis, the destination along columns'
  int64_t column_tiles, tiles;
  Walk slabs;  // the outer axes
};

template <class Unit>
__global__ void __launch_bounds__(kThreads)
    turn_kernel(Unit* __restrict__ to, const Unit* __restrict__ from,
                const __grid_constant__ Turn turn) {
  // Whole words of padding: a column of the tile then lies in 32 different banks.
  constexpr int kPadding = sizeof(Unit) < 4 ? 4 / sizeof(Unit) : 1;
  __shared__ Unit tile[kTile][kTile + kPadding];  // [column][row]
  constexpr int kStep = kThreads / kTile;
  const int x = threadIdx.x % kTile, y = threadIdx.x / kTile;
  const int64_t number = blockIdx.x % turn.tiles;
  const int64_t row0 = number / turn.column_tiles * kTile;
  const int64_t column0 = number % turn.column_tiles * kTile;
  int64_t to_slab, from_slab;
  turn.slabs.find(blockIdx.x / turn.tiles, to_slab, from_slab);
  to += to_slab, from += from_slab;

#pragma unroll
  for (int c = 0; c < kTile; c += kStep) {
    const int64_t row = row0 + x, column = column0 + c + y;
    if (row < turn.row.size && column < turn.column.size)
      tile[c + y][x] = from[row * turn.row.from + column * turn.column.from];
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kTile; r += kStep) {
    const int64_t row = row0 + r + y, column = column0 + x;
    if (row < turn.row.size && column < turn.column.size)
      to[row * turn.row.to + column * turn.column.to] = tile[x][r + y];
  }
}

template <class Unit>
void launch_turn(void* to, const void* from, const CopyPlan& plan, cudaStream_t stream) {
  Turn turn{plan.axes[static_cast<size_t>(plan.rank - 2)],
            plan.axes[static_cast<size_t>(plan.rank - 1)], 0, 0, Walk(plan, plan.rank - 2)};
  turn.column_tiles = (turn.column.size + kTile - 1) / kTile;
  turn.tiles = (turn.row.size + kTile - 1) / kTile * turn.column_tiles;
  const auto blocks = static_cast<unsigned int>(turn.tiles * turn.slabs.count);
  turn_kernel<<<blocks, kThreads, 0, stream>>>(static_cast<Unit*>(to),
                                               static_cast<const Unit*>(from), turn);
}

// Tiles are worth it when they are well filled, and one launch holds fewer than 2^31 of them.
bool by_tiles(const CopyPlan& plan) {
  const CopyAxis& row = plan.axes[static_cast<size_t>(plan.rank - 2)];
  const CopyAxis& column = plan.axes[static_cast<size_t>(plan.rank - 1)];
  if (!plan.transposed() || row.size < 8 || column.size < 8) return false;
  const int64_t tiles = (row.size + kTile - 1) / kTile * ((column.size + kTile - 1) / kTile);
  return Walk(plan, plan.rank - 2).count < (int64_t{1} << 31) / tiles;
}

// ---------------------------------------------------------------- strided moves

constexpr int kMoves = 4;  // units per thread, all read before the first is written

template <class Unit>
__global__ void __launch_bounds__(kThreads)
    move_kernel(Unit* __restrict__ to, const Unit* __restrict__ from,
                const __grid_constant__ Walk walk) {
  const int64_t first = int64_t{blockIdx.x} * kMoves * kThreads + threadIdx.x;
  int64_t to_offset[kMoves];
  Unit units[kMoves];
#pragma unroll
  for (int i = 0; i < kMoves; ++i) {
    int64_t from_offset = 0;
    const int64_t position = first + i * kThreads;
    walk.find(position < walk.count ? position : walk.count - 1, to_offset[i], from_offset);
    units[i] = from[from_offset];
  }
#pragma unroll
  for (int i = 0; i < kMoves; ++i)
    if (first + i * kThreads < walk.count) to[to_offset[i]] = units[i];
}

template <class Unit>
void launch_move(void* to, const void* from, const CopyPlan& plan, cudaStream_t stream) {
  const Walk walk(plan, plan.rank);
  move_kernel<<<blocks_for(walk.count, kMoves * kThreads), kThreads, 0, stream>>>(
      static_cast<Unit*>(to), static_cast<const Unit*>(from), walk);
}

// Rewrites the plan for the widest units, at most 16 bytes, in which both sides are whole; returns
// their size.
int64_t widen(CopyPlan& plan, int64_t element, const void* to, const void* from) {
  CopyAxis& inner = plan.axes[static_cast<size_t>(plan.rank - 1)];
  if (inner.to != 1 || inner.from != 1) return element;
  const auto fits = [&](int64_t unit) {
    const int64_t elements = unit / element;
    bool whole = inner.size % elements == 0 && reinterpret_cast<uintptr_t>(to) % unit == 0 &&
                 reinterpret_cast<uintptr_t>(from) % unit == 0;
    for (int64_t i = 0; i < plan.rank - 1; ++i) {
      const CopyAxis& axis = plan.axes[static_cast<size_t>(i)];
      whole &= axis.to % elements == 0 && axis.from % elements == 0;
    }
    return whole;
  };
  int64_t unit = 16;
  while (unit > element && !fits(unit)) unit /= 2;
  const int64_t elements = unit / element;
  inner.size /= elements;
  for (int64_t i = 0; i < plan.rank - 1; ++i) {
    plan.axes[static_cast<size_t>(i)].to /= elements;
    plan.axes[static_cast<size_t>(i)].from /= elements;
  }
  return unit;
}

void copy_bits(void* to, const void* from, CopyPlan plan, int64_t element, cudaStream_t stream) {
  if (by_tiles(plan)) {
    if (element == 8) return launch_turn<uint64_t>(to, from, plan, stream);
    if (element == 4) return launch_turn<uint32_t>(to, from, plan, stream);
    if (element == 2) return launch_turn<uint16_t>(to, from, plan, stream);
    return launch_turn<uint8_t>(to, from, plan, stream);
  }
  switch (widen(plan, element, to, from)) {
    case 16:
      return launch_move<uint4>(to, from, plan, stream);
    case 8:
      return launch_move<uint64_t>(to, from, plan, stream);
    case 4:
      return launch_move<uint32_t>(to, from, plan, stream);
    case 2:
      return launch_move<uint16_t>(to, from, plan, stream);
    default:
      return launch_move<uint8_t>(to, from, plan, stream);
  }
}

// ---------------------------------------------------------------- strided conversions

template <class To>
__global__ void __launch_bounds__(kThreads)
    convert_kernel(To* to, const __grid_constant__ Source from, const __grid_constant__ Walk walk) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < walk.count; i += step) {
    int64_t to_offset, from_offset;
    walk.find(i, to_offset, from_offset);
    to[to_offset] = from.at<To>(from_offset);
  }
}

char* shifted(const Tensor& x, int64_t elements) {
  return static_cast<char*>(x.raw_data()) + elements * size_of(x.dtype());
}

void convert_strided(const Tensor& destination, const Tensor& source, const CopyPlan& plan,
                     cudaStream_t stream) {
  Source from;
  from.data = shifted(source, plan.from_shift);
  from.dtype = source.dtype();
  const Walk walk(plan, plan.rank);
  visit_dtype(destination.dtype(), [&]<class To>(TypeTag<To>) {
    convert_kernel<<<blocks_for(walk.count, kThreads, 1 << 20), kThreads, 0, stream>>>(
        reinterpret_cast<To*>(shifted(destination, plan.to_shift)), from, walk);
  });
}

// ---------------------------------------------------------------- fill

// `pattern` is the element, repeated.
__global__ void fill_dense_kernel(uint4* to, uint4 pattern, int64_t bytes) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, vectors = bytes / 16;
  if (i < vectors) {
    to[i] = pattern;
  } else if (i == vectors) {  // the bytes that are left
    auto* tail = reinterpret_cast<unsigned char*>(to + vectors);
    const auto* element = reinterpret_cast<const unsigned char*>(&pattern);
    for (int64_t j = 0; j < bytes % 16; ++j) tail[j] = element[j];
  }
}

template <class Unit>
__global__ void __launch_bounds__(kThreads)
    fill_strided_kernel(Unit* to, Unit value, const __grid_constant__ Walk walk) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < walk.count; i += step) {
    int64_t to_offset, unused;
    walk.find(i, to_offset, unused);
    to[to_offset] = value;
  }
}

template <class Unit>
void fill_strided(const Tensor& destination, const ElementBytes& element, cudaStream_t stream) {
  const CopyPlan plan(destination.shape(), destination.strides(),
                      Strides::filled(destination.rank(), 0));
  const Walk walk(plan, plan.rank);
  Unit value;
  std::memcpy(&value, element.bytes, sizeof value);
  fill_strided_kernel<<<blocks_for(walk.count, kThreads, 1 << 20), kThreads, 0, stream>>>(
      reinterpret_cast<Unit*>(shifted(destination, plan.to_shift)), value, walk);
}

void fill_dense(const Tensor& destination, const ElementBytes& element, cudaStream_t stream) {
  const int64_t size = size_of(destination.dtype()), bytes = destination.nbytes();
  char repeated[16];
  for (int64_t i = 0; i < 16; ++i) repeated[i] = element.bytes[i % size];
  uint4 pattern;
  std::memcpy(&pattern, repeated, sizeof pattern);
  fill_dense_kernel<<<blocks_for(bytes / 16 + 1, kThreads), kThreads, 0, stream>>>(
      static_cast<uint4*>(destination.raw_data()), pattern, bytes);
}

bool all_zero(const ElementBytes& element) {
  return std::all_of(element.bytes, element.bytes + 8, [](char byte) { return byte == 0; });
}

}  // namespace

// The destination is not empty, and the two do not overlap.
void copy(const Tensor& destination, const Tensor& source) {
  const cudaStream_t stream = tendril::cuda::stream(destination.device());
  const bool same = destination.dtype() == source.dtype();
  if (destination.is_contiguous() && source.is_contiguous() &&
      destination.shape() == source.shape()) {
    if (same) {
      TENDRIL_CUDA_CHECK(cudaMemcpyAsync(destination.raw_data(), source.raw_data(),
                                         static_cast<size_t>(source.nbytes()),
                                         cudaMemcpyDeviceToDevice, stream));
      return;
    }
    if (convert_dense<bfloat16, float>(destination, source) ||
        convert_dense<float, bfloat16>(destination, source) ||
        convert_dense<float16, float>(destination, source) ||
        convert_dense<float, float16>(destination, source) ||
        convert_dense<bfloat16, float16>(destination, source) ||
        convert_dense<float16, bfloat16>(destination, source))
      return;
  }
  const CopyPlan plan(destination.shape(), destination.strides(),
                      broadcast_strides(source.shape(), source.strides(), destination.shape()));
  if (same)
    copy_bits(shifted(destination, plan.to_shift), shifted(source, plan.from_shift), plan,
              size_of(source.dtype()), stream);
  else
    convert_strided(destination, source, plan, stream);
  TENDRIL_CUDA_CHECK_LAUNCH("copy");
}

// The destination is not empty and repeats no element.
void fill(const Tensor& destination, double value) {
  const cudaStream_t stream = tendril::cuda::stream(destination.device());
  const ElementBytes element(destination.dtype(), value);
  const bool dense = destination.is_contiguous();
  if (dense && all_zero(element)) {
    TENDRIL_CUDA_CHECK(cudaMemsetAsync(destination.raw_data(), 0,
                                       static_cast<size_t>(destination.nbytes()), stream));
    return;
  }
  if (dense && tendril::cuda::aligned16(destination.raw_data())) {
    fill_dense(destination, element, stream);
  } else {
    switch (size_of(destination.dtype())) {
      case 8:
        fill_strided<uint64_t>(destination, element, stream);
        break;
      case 4:
        fill_strided<uint32_t>(destination, element, stream);
        break;
      case 2:
        fill_strided<uint16_t>(destination, element, stream);
        break;
      default:
        fill_strided<uint8_t>(destination, element, stream);
    }
  }
  TENDRIL_CUDA_CHECK_LAUNCH("fill");
}

}  // namespace tendril::ops::cuda
