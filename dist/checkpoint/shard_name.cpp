#include <tendril/dist/checkpoint/shard_name.h>

#include <charconv>
#include <cstdio>
#include <limits>

#include <tendril/dist/checkpoint/manifest.h>

namespace tendril::dist::shards {
namespace {

constexpr std::string_view kEnding = ".safetensors";

bool take(std::string_view& text, std::string_view beginning) {
  if (!text.starts_with(beginning)) return false;
  text.remove_prefix(beginning.size());
  return true;
}

// A decimal number without sign; -1 when there is none, or it has more than 63 bits.
int64_t take_number(std::string_view& text) {
  int64_t value = 0;
  if (text.empty() || text.front() == '-') return -1;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) return -1;
  text.remove_prefix(static_cast<size_t>(result.ptr - text.data()));
  return value;
}

}  // namespace

std::string shard_name(int rank, int ranks, int64_t save) {
  char text[64];
  std::snprintf(text, sizeof text, "shard-%05d-of-%05d", rank, ranks);
  std::string name = text;
  if (save > 0) name += '-' + std::to_string(save);
  return name.append(kEnding);
}

std::optional<int64_t> save_number(std::string_view name) {
  std::string_view rest = name;
  if (!take(rest, "shard-")) return std::nullopt;
  const int64_t rank = take_number(rest);
  if (rank < 0 || !take(rest, "-of-")) return std::nullopt;
  const int64_t ranks = take_number(rest);
  const int64_t save = take(rest, "-") ? take_number(rest) : 0;
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  if (save < 0 || rest != kEnding || rank >= ranks || ranks > kMost) return std::nullopt;
  // One spelling only: no more zeros than there should be.
  const bool plain = shard_name(static_cast<int>(rank), static_cast<int>(ranks), save) == name;
  return plain ? std::optional(save) : std::nullopt;
}

bool is_unfinished(std::string_view name) {
  const size_t at = name.find(".tmp-");
  if (at == std::string_view::npos) return false;
  const std::string_view final_name = name.substr(0, at);
  return final_name == kManifestName || save_number(final_name).has_value();
}

}  // namespace tendril::dist::shards
