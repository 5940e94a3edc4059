// The loop nest of Goto and van de Geijn ("Anatomy of high-performance matrix multiplication",
// 2008). B is packed into panels, A is read where it lies when its layout allows. Blocks of C are
// handed to threads, each block to exactly one, which walks K in a fixed order.

#include <tendril/core/cpu/gemm.h>

#include <algorithm>

#include <tendril/core/cpu/gemm_kernels.h>
#include <tendril/core/cpu/half_convert.h>
#include <tendril/core/cpu/scratch.h>
#include <tendril/core/threads.h>

namespace tendril::cpu {
namespace {

constexpr int64_t kChunkBytes = 8 << 20;      // of B packed at a time
constexpr int64_t kBlockRows = 112;           // of a block of C
constexpr int64_t kSmallProduct = 1 << 19;    // multiplications that are not worth a second thread
constexpr int64_t kFewBlocks = 8;             // below this number, blocks are made smaller
constexpr int64_t kOwnCopyBytes = 320 << 10;  // of B that every thread packs for itself
constexpr int64_t kSmallBytes = 32 << 10;     // of an operand that stays in the first-level cache

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }
int64_t round_up(int64_t value, int64_t multiple) { return divide_up(value, multiple) * multiple; }

GemmKernels choose_kernels(const MatrixView& a, const MatrixView& b) {
  if (a.dtype == f64) return TENDRIL_ISA_CALL(gemm_kernels_f64());
#ifdef TENDRIL_HAVE_ISA_AVX512
  if (a.dtype == bf16 && b.dtype == bf16 && has_bf16_dot()) return avx512_bf16::gemm_kernels_bf16();
#endif
  return TENDRIL_ISA_CALL(gemm_kernels_f32());
}

// One product: the operands, the kernels that fit them, and how the work is cut.
struct Product {
  Product(int64_t M, int64_t N, int64_t K, const MatrixView& a, const MatrixView& b,
          const GemmOutput& c, bool c_is_transposed = false)
      : M(M),
        N(N),
        K(K),
        a(a),
        b(b),
        c(c),
        c_is_transposed(c_is_transposed),
        kernels(choose_kernels(a, b)) {
    pass_depth =
        round_up(divide_up(K, divide_up(K, kernels.pass_steps * kernels.elements_per_unit)),
                 kernels.elements_per_unit);
    sums_in_place = !c_is_transposed && (c.dtype == f32 || c.dtype == f64);
    rounds_at_once = kernels.block_rounded && !c_is_transposed && !is_skinny() && c.dtype == bf16 &&
                     K <= pass_depth && !c.bias;
    sum_bytes = a.dtype == f64 ? 8 : 4;
    a_is_readable = readable_a();
    b_is_readable = readable_b();
    // Equal heights matter more than whole tiles: a thread that is done early waits.
    block_rows = divide_up(M, divide_up(M, kBlockRows));
    block_columns = round_up(a_is_readable ? 256 : 512, kernels.columns);
    const bool shared_out = !is_small();  // among threads
    if (shared_out && blocks() < kFewBlocks) block_columns = round_up(128, kernels.columns);
    if (shared_out && blocks() < kFewBlocks) {
      const int64_t row_blocks = divide_up(kFewBlocks, divide_up(N, block_columns));
      block_rows = divide_up(M, row_blocks);
    }
    const int64_t column_bytes = steps(K) * kernels.unit_bytes;
    chunk_columns =
        std::min(N, round_up(std::max<int64_t>(kChunkBytes / column_bytes, 1), block_columns));
  }

  bool is_small() const { return M * N * K < kSmallProduct; }
  int64_t blocks() const { return divide_up(M, block_rows) * divide_up(N, block_columns); }
  int64_t steps(int64_t depth) const { return divide_up(depth, kernels.elements_per_unit); }

  /// To be called when a block of the product stands in c.
  void finished(int64_t i, int64_t j, int64_t rows, int64_t columns) const {
    if (!c.after_block) return;
    if (c_is_transposed)
      c.after_block->run(j, i, columns, rows);
    else
      c.after_block->run(i, j, rows, columns);
  }

  bool is_skinny() const {
    const DType unit = kernels.elements_per_unit == 2 ? bf16 : kernels.unit_bytes == 8 ? f64 : f32;
    return kernels.skinny && M <= kernels.skinny_rows && a.column_stride == 1 &&
           b.row_stride == 1 && a.dtype == unit && b.dtype == unit &&
           K % kernels.skinny_multiple == 0;
  }

  int64_t M, N, K;
  MatrixView a, b;
  GemmOutput c;
  bool c_is_transposed;  // element (i, j) of the product goes to row j, column i of c
  GemmKernels kernels;
  int64_t pass_depth, block_rows, block_columns, chunk_columns, sum_bytes;
  bool a_is_readable, b_is_readable;
  bool sums_in_place;   // in c; otherwise in a buffer
  bool rounds_at_once;  // the kernel itself writes 16 bits

 private:
  // Rows with contiguous K in the units' type, unless a tile's rows fall into the same cache sets:
  // those of a level-1 cache repeat every 4096 bytes. (Two sets in turn, at 2048, still hold them.)
  bool readable_a() const {
    const bool right_type =
        kernels.elements_per_unit == 2 ? K % 2 == 0 : size_of(a.dtype) == kernels.unit_bytes;
    const bool spread = a.row_stride * size_of(a.dtype) % 4096 != 0;
    return right_type && a.column_stride == 1 && (spread || M <= kernels.rows / 2);
  }

  // Contiguous rows of whole vectors, read too seldom to be worth packing or small enough to be
  // cached.
  bool readable_b() const {
    const bool right_type =
        kernels.elements_per_unit == 1 && size_of(b.dtype) == kernels.unit_bytes;
    const bool whole_vectors =
        kernels.columns > 1 && b.column_stride == 1 && N % (kernels.columns / 2) == 0;
    return right_type && whole_vectors &&
           (M <= 2 * kernels.rows || K * N * kernels.unit_bytes <= kSmallBytes);
  }
};

// The sums of one block of C: in C itself, or in a buffer that is rounded or transposed into C at
// the end.
class BlockSums {
 public:
  BlockSums(const Product& p, int64_t i, int64_t j, int64_t rows, int64_t columns, char* buffer)
      : p_(p), i_(i), j_(j), rows_(rows), columns_(columns) {
    const bool in_place = p.sums_in_place || p.rounds_at_once;
    data = in_place ? static_cast<char*>(p.c.data) + (i * p.c.row_stride + j) * size_of(p.c.dtype)
                    : buffer;
    row_stride = in_place ? p.c.row_stride : columns;
    if (p.c.bias) start_with_bias();
  }

  static int64_t buffer_bytes(const Product& p, int64_t rows, int64_t columns) {
    return p.sums_in_place || p.rounds_at_once ? 0 : rows * columns * p.sum_bytes;
  }

  /// Whether the first pass over K adds to what is there.
  bool started() const { return p_.c.bias || (p_.c.accumulate && p_.sums_in_place); }

  void finish() const {
    if (p_.sums_in_place || p_.rounds_at_once) return;
    if (p_.c_is_transposed)
      return p_.sum_bytes == 8 ? transpose_into<double>() : transpose_into<float>();
    for (int64_t row = 0; row < rows_; ++row)
      write_row(reinterpret_cast<const float*>(data) + row * columns_, i_ + row, j_, columns_);
  }

  char* data;
  int64_t row_stride;

 private:
  void start_with_bias() {
    if (p_.sum_bytes == 8)
      start_with_bias_of<double>();
    else
      start_with_bias_of<float>();
  }

  template <class T>
  void start_with_bias_of() {
    const T* bias = static_cast<const T*>(p_.c.bias);
    for (int64_t row = 0; row < rows_; ++row) {
      T* sums = reinterpret_cast<T*>(data) + row * row_stride;
      if (p_.c_is_transposed)
        std::fill_n(sums, columns_, bias[i_ + row]);
      else if (p_.c.accumulate && p_.sums_in_place)
        for (int64_t j = 0; j < columns_; ++j) sums[j] += bias[j_ + j];
      else
        std::copy_n(bias + j_, columns_, sums);
    }
  }

  template <class T>
  void transpose_into() const {
    const T* sums = reinterpret_cast<const T*>(data);
    T line[2 * kBlockRows];
    for (int64_t j = 0; j < columns_; ++j) {
      for (int64_t i = 0; i < rows_; ++i) line[i] = sums[i * columns_ + j];
      write_row(line, j_ + j, i_, rows_);
    }
  }

  void write_row(const double* from, int64_t row, int64_t column, int64_t count) const {
    write_or_add(from, static_cast<double*>(p_.c.data) + row * p_.c.row_stride + column, count);
  }
  void write_row(const float* from, int64_t row, int64_t column, int64_t count) const {
    const int64_t offset = row * p_.c.row_stride + column;
    if (p_.c.dtype == bf16)
      convert_run(from, static_cast<bfloat16*>(p_.c.data) + offset, count);
    else if (p_.c.dtype == f16)
      convert_run(from, static_cast<float16*>(p_.c.data) + offset, count);
    else
      write_or_add(from, static_cast<float*>(p_.c.data) + offset, count);
  }
  template <class T>
  void write_or_add(const T* from, T* to, int64_t count) const {
    if (p_.c.accumulate)
      for (int64_t i = 0; i < count; ++i) to[i] += from[i];
    else
      std::copy_n(from, count, to);
  }

  const Product& p_;
  int64_t i_, j_, rows_, columns_;
};

// Columns [begin, begin + columns) of B, packed: pass after pass, each pass panel after panel.
struct PackedChunk {
  int64_t begin = 0, columns = 0;
  const char* data = nullptr;  // null: B is read where it lies
};

ReadableB panels_of(const Product& p, const PackedChunk& chunk, int64_t j, int64_t k,
                    int64_t steps) {
  const int64_t row_bytes =
      int64_t{p.kernels.columns} * p.kernels.unit_bytes;  // one step of a panel
  if (!chunk.data)
    return {static_cast<const char*>(p.b.from(k, j).data), row_bytes,
            p.b.row_stride * p.kernels.unit_bytes};
  const int64_t panels = divide_up(chunk.columns, p.kernels.columns),
                panel = (j - chunk.begin) / p.kernels.columns;
  const char* pass = chunk.data + p.steps(k) * panels * row_bytes;
  return {pass + panel * steps * row_bytes, steps * row_bytes, row_bytes};
}

void compute_block(const Product& p, const PackedChunk& chunk, int64_t i, int64_t j,
                   int64_t columns) {
  const int64_t rows = std::min(p.block_rows, p.M - i);
  const int64_t copy_bytes =
      p.a_is_readable ? 0 : round_up(copied_a_bytes(p.kernels, rows, p.pass_depth), 64);
  const Scratch scratch(copy_bytes + BlockSums::buffer_bytes(p, rows, columns));
  const auto block = p.rounds_at_once ? p.kernels.block_rounded : p.kernels.block;
  const BlockSums sums(p, i, j, rows, columns, scratch.data() + copy_bytes);
  for (int64_t k = 0; k < p.K; k += p.pass_depth) {
    const int64_t depth = std::min(p.pass_depth, p.K - k), steps = p.steps(depth);
    const MatrixView here = p.a.from(i, k);
    const ReadableA left =
        p.a_is_readable ? ReadableA{static_cast<const char*>(here.data),
                                    here.row_stride * size_of(here.dtype), p.kernels.unit_bytes}
                        : p.kernels.copy_a(here, rows, depth, scratch.data());
    block(rows, columns, steps, left, panels_of(p, chunk, j, k, steps), sums.data, sums.row_stride,
          k > 0 || sums.started());
  }
  sums.finish();
  p.finished(i, j, rows, columns);
}

// Blocks [begin, end) of the chunk, counted row by row.
void compute_blocks(const Product& p, const PackedChunk& chunk, int64_t begin, int64_t end) {
  const int64_t column_blocks = divide_up(chunk.columns, p.block_columns);
  for (int64_t index = begin; index < end; ++index) {
    const int64_t j = chunk.begin + index % column_blocks * p.block_columns;
    compute_block(p, chunk, index / column_blocks * p.block_rows, j,
                  std::min(p.block_columns, chunk.begin + chunk.columns - j));
  }
}

int64_t blocks_of(const Product& p, const PackedChunk& chunk) {
  return divide_up(p.M, p.block_rows) * divide_up(chunk.columns, p.block_columns);
}

void compute_chunk(const Product& p, const PackedChunk& chunk) {
  const int64_t blocks = blocks_of(p, chunk);
  parallel_for(blocks, p.is_small() ? blocks : 1,
               [&](int64_t begin, int64_t end) { compute_blocks(p, chunk, begin, end); });
}

// Panels are packed by whichever thread comes first; where each one goes is fixed.
void pack_chunk(const Product& p, const PackedChunk& chunk, char* packed) {
  const int64_t width = p.kernels.columns, panels = divide_up(chunk.columns, width),
                passes = divide_up(p.K, p.pass_depth);
  const int64_t panels_at_once = std::max<int64_t>(1, 65536 / (p.pass_depth * width));
  const int64_t groups = divide_up(panels, panels_at_once);
  parallel_for(groups * passes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t k = index / groups * p.pass_depth, panel = index % groups * panels_at_once;
      const int64_t depth = std::min(p.pass_depth, p.K - k), column = panel * width;
      const int64_t count = std::min(panels_at_once * width, chunk.columns - column);
      char* target =
          packed + (p.steps(k) * panels + panel * p.steps(depth)) * width * p.kernels.unit_bytes;
      p.kernels.pack_b(p.b.from(k, chunk.begin + column), count, depth, target);
    }
  });
}

// Few rows: B is read once, so packing it would double the work.
void multiply_skinny(const Product& p) {
  const int64_t at_once = std::max<int64_t>(16, 32768 / p.K);
  parallel_for(p.N, at_once, [&](int64_t begin, int64_t end) {
    const int64_t columns = end - begin;
    const Scratch scratch(p.M * columns * p.sum_bytes);
    const BlockSums sums(p, 0, begin, p.M, columns, scratch.data());
    p.kernels.skinny(p.M, columns, p.K, p.a, p.b.from(0, begin).transposed(), sums.data,
                     sums.row_stride, sums.started());
    sums.finish();
    p.finished(0, begin, p.M, columns);
  });
}

void fill_without_products(Product p) {
  p.rounds_at_once = false;  // no kernel runs
  for (int64_t i = 0; i < p.M; ++i) {
    const Scratch scratch(p.N * p.sum_bytes);
    const BlockSums sums(p, i, 0, 1, p.N, scratch.data());
    if (!sums.started()) std::fill_n(sums.data, p.N * p.sum_bytes, char{0});
    sums.finish();
    p.finished(i, 0, 1, p.N);
  }
}

// C^T = B^T A^T packs A instead of B and transposes the result. Worth it when B is the larger by
// far and its columns can be read where they lie, as with x W^T and few rows of x.
bool better_transposed(int64_t M, int64_t N, int64_t K, const MatrixView& b) {
  return b.row_stride == 1 && b.column_stride != 1 && N * K > M * (K + N);
}

int64_t packed_bytes(const Product& p, int64_t columns) {
  const int64_t steps = p.steps(p.K) + divide_up(p.K, p.pass_depth);
  return round_up(columns, p.kernels.columns) * steps * p.kernels.unit_bytes;
}

// A small B is packed by every thread for itself: that is quicker than fetching it from the cache
// of another core. The number of threads decides who computes a block of C, never how.
void multiply_with_own_copies(const Product& p) {
  const PackedChunk whole{0, p.N, nullptr};
  const int64_t blocks = blocks_of(p, whole);
  const int64_t share = p.is_small() ? blocks : divide_up(blocks, num_threads());
  parallel_for(blocks, share, [&](int64_t begin, int64_t end) {
    const Scratch packed(packed_bytes(p, p.N));
    const PackedChunk chunk{0, p.N, packed.data()};
    pack_chunk(p, chunk, packed.data());
    compute_blocks(p, chunk, begin, end);
  });
}

void multiply(const Product& p) {
  if (p.b_is_readable) return compute_chunk(p, {0, p.N, nullptr});
  if (packed_bytes(p, p.N) <= kOwnCopyBytes && p.block_rows < p.M)
    return multiply_with_own_copies(p);
  const Scratch packed(packed_bytes(p, p.chunk_columns));
  for (int64_t j = 0; j < p.N; j += p.chunk_columns) {
    const PackedChunk chunk{j, std::min(p.chunk_columns, p.N - j), packed.data()};
    pack_chunk(p, chunk, packed.data());
    compute_chunk(p, chunk);
  }
}

}  // namespace

void gemm(int64_t M, int64_t N, int64_t K, const MatrixView& a, const MatrixView& b,
          const GemmOutput& c) {
  if (M == 0 || N == 0) return;
  const Product p(M, N, std::max<int64_t>(K, 1), a, b, c);
  if (K == 0) return fill_without_products(p);
  if (p.is_skinny()) return multiply_skinny(p);
  if (better_transposed(M, N, K, b))
    return multiply(Product(N, M, K, b.transposed(), a.transposed(), c, true));
  multiply(p);
}

}  // namespace tendril::cpu
