#include <tendril/core/cuda/blas.cuh>

#include <array>
#include <mutex>
#include <unordered_map>

#include <tendril/core/cuda/blas_problem.cuh>

namespace tendril::cuda {
namespace {

// One block of this size per stream: the caching allocator gives every product the same one.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

// Never destroyed: products may run until the last static destructor.
cublasLtHandle_t handle(const BlasProduct& p) {
  static auto* once = new std::array<std::once_flag, kMostDevices>;
  static auto* handles = new std::array<cublasLtHandle_t, kMostDevices>{};
  const auto index = static_cast<size_t>(p.device.index);
  std::call_once((*once)[index],
                 [&] { check(cublaslt().create(&(*handles)[index]), "cublasLtCreate", p); });
  return (*handles)[index];
}

// ---------------------------------------------------------------- choosing an algorithm

// The power of two, at most 16, that divides the address: no kernel's accesses are wider.
uint32_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return static_cast<uint32_t>((address | 16) & (~(address | 16) + 1));
}

// As many as were found of the best by the library's own rules.
constexpr int kMostCandidates = 8;
using Candidates = std::array<BlasChoice, kMostCandidates>;

int candidates_for(const BlasProduct& p, BlasProblem& problem, int most, Candidates& found) {
  const CublasLt& lt = cublaslt();
  cublasLtMatmulPreferenceOpaque_t preference;
  check(lt.init_preference(&preference, sizeof preference), "cublasLtMatmulPreferenceInit", p);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(lt.set_preference(&preference, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute", p);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kWorkspaceBytes));
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.c.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.c.data));
  std::array<cublasLtMatmulHeuristicResult_t, kMostCandidates> results{};
  int count = 0, good = 0;
  const cublasStatus_t status =
      lt.choose(handle(p), problem.operation(), problem.b(), problem.a(), problem.c(), problem.c(),
                &preference, most, results.data(), &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return 0;
  check(status, "cublasLtMatmulAlgoGetHeuristic", p);
  for (int i = 0; i < count; ++i)
    if (const auto& result = results[static_cast<size_t>(i)]; result.state == CUBLAS_STATUS_SUCCESS)
      found[static_cast<size_t>(good++)] = {true, result.algo,
                                            static_cast<int64_t>(result.workspaceSize)};
  return good;
}

// All that the choice depends on.
using Key = std::array<int64_t, 13>;

struct KeyHash {
  size_t operator()(const Key& key) const {
    uint64_t hash = 0xCBF29CE484222325u;
    for (const int64_t value : key) {
      hash = (hash ^ static_cast<uint64_t>(value)) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 32;
    }
    return static_cast<size_t>(hash);
  }
};

Key key_of(const BlasProduct& p, bool tf32) {
  int64_t flags = 0;
  const auto add = [&](int64_t value, int bits) { flags = flags << bits | value; };
  add(p.device.index, 5);
  add(static_cast<int64_t>(p.in), 3);
  add(static_cast<int64_t>(p.out), 3);
  add(static_cast<int64_t>(p.epilogue), 2);
  add(p.a.column_major, 1);
  add(p.b.column_major, 1);
  add(p.bias != nullptr, 1);
  add(tf32, 1);
  for (const void* data : {p.a.data, p.b.data, p.c.data, p.bias, static_cast<const void*>(p.aux)})
    add(alignment(data), 5);
  return {p.m,
          p.n,
          p.k,
          p.batch,
          p.a.ld,
          p.b.ld,
          p.c.ld,
          p.a.batch_stride,
          p.b.batch_stride,
          p.c.batch_stride,
          flags};
}

// The first candidate, or for large products the fastest; not the last word while a graph is
// recorded. Two threads that come here at once may choose differently, but the bits are the same.
BlasChoice choose(const BlasProduct& p, BlasProblem& problem, bool& is_final) {
  const bool tunes = is_worth_tuning(p);
  Candidates candidates;
  const int count = candidates_for(p, problem, tunes ? kMostCandidates : 1, candidates);
  if (count == 0) return {};
  if (!tunes || count == 1) return candidates[0];
  is_final = !is_recording_graph();
  return is_final ? fastest_choice(p, problem, candidates.data(), count) : candidates[0];
}

BlasChoice chosen(const BlasProduct& p, BlasProblem& problem, bool tf32) {
  static auto* mutex = new std::mutex;
  static auto* choices = new std::unordered_map<Key, BlasChoice, KeyHash>;
  const Key key = key_of(p, tf32);
  {
    const std::lock_guard lock(*mutex);
    if (const auto found = choices->find(key); found != choices->end()) return found->second;
  }
  bool is_final = true;
  const BlasChoice choice = choose(p, problem, is_final);
  if (!is_final) return choice;
  const std::lock_guard lock(*mutex);
  return choices->emplace(key, choice).first->second;
}

}  // namespace

void run_product(const BlasProduct& p, BlasProblem& problem, const BlasChoice& choice, void* out) {
  const Tensor workspace =
      choice.workspace > 0 ? Tensor::empty({kWorkspaceBytes}, u8, p.device) : Tensor();
  const double beta = p.accumulate ? 1.0 : 0.0;
  const float narrow[] = {static_cast<float>(p.alpha), static_cast<float>(beta)};
  const double wide[] = {p.alpha, beta};
  const bool is_wide = p.in == f64;
  check(cublaslt().multiply(handle(p), problem.operation(),
                            is_wide ? static_cast<const void*>(&wide[0]) : &narrow[0], p.b.data,
                            problem.b(), p.a.data, problem.a(),
                            is_wide ? static_cast<const void*>(&wide[1]) : &narrow[1], p.c.data,
                            problem.c(), out, problem.c(), &choice.algorithm,
                            workspace.defined() ? workspace.raw_data() : nullptr,
                            static_cast<size_t>(choice.workspace), stream(p.device)),
        "cublasLtMatmul", p);
}

bool multiply(const BlasProduct& p) {
  const bool tf32 = tf32_allowed();
  BlasProblem problem(p, tf32);
  const BlasChoice choice = chosen(p, problem, tf32);
  if (choice.found) run_product(p, problem, choice, const_cast<void*>(p.c.data));
  return choice.found;
}

}  // namespace tendril::cuda
