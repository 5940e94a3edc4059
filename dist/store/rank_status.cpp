#include <tendril/dist/store/rank_status.h>

#include <unistd.h>

#include <tendril/core/error.h>
#include <tendril/core/json.h>
#include <tendril/dist/store/socket.h>

namespace tendril::dist {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMostNamed = 8;  // ranks in one message

// Whether `other` is in the operation of `own`, or has even left it.
bool takes_part(const RankStatus& other, const RankStatus& own) {
  if (other.label == own.label) return true;
  const bool can_compare = own.number >= 0 && other.number >= 0 && other.ranks == own.ranks;
  return can_compare && other.number > own.number;
}

}  // namespace

RankStatus RankStatus::of(int rank, const Activity& activity) {
  RankStatus status;
  status.rank = rank;
  status.host = host_name();
  if (status.host.empty()) status.host = "unknown";
  status.pid = ::getpid();
  status.label = activity.label;
  status.number = activity.number;
  status.ranks = activity.ranks;
  status.is_inside = activity.is_inside;
  if (!activity.label.empty())
    status.age =
        std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - activity.since);
  return status;
}

std::string RankStatus::json() const {
  Json list = Json::array();
  for (const int member : ranks) list.push_back(member);
  return Json::object()
      .set("rank", rank)
      .set("host", host)
      .set("pid", pid)
      .set("label", label)
      .set("number", number)
      .set("ranks", std::move(list))
      .set("inside", is_inside)
      .set("age_ms", static_cast<int64_t>(age.count()))
      .dump();
}

RankStatus RankStatus::parse(const std::string& text) {
  const Json json = Json::parse(text, "the status of a rank");
  RankStatus status;
  status.rank = static_cast<int>(json.at("rank").as_int());
  status.host = json.at("host").as_string();
  status.pid = json.at("pid").as_int();
  status.label = json.at("label").as_string();
  status.number = json.at("number").as_int();
  for (const Json& member : json.at("ranks").items())
    status.ranks.push_back(static_cast<int>(member.as_int()));
  status.is_inside = json.at("inside").as_bool();
  status.age = milliseconds(json.at("age_ms").as_int());
  return status;
}

std::string RankStatus::who() const {
  if (host.empty()) return detail::concat("rank ", rank);
  return detail::concat("rank ", rank, " (host ", host, ", pid ", pid, ")");
}

std::string RankStatus::last_operation() const {
  if (label.empty()) return "; it has begun no operation";
  return "; its last operation was " + label + (is_inside ? ", not finished" : "");
}

std::string RankStatus::end_notice() const { return who() + " has ended" + last_operation(); }

std::string seconds_text(milliseconds duration) {
  const int64_t count = duration.count();
  if (count >= 10'000) return detail::concat(count / 1000, " s");
  return detail::concat(static_cast<double>(count / 10) / 100.0, " s");
}

std::string timeout_notice(const RankStatus& own, milliseconds timeout, milliseconds silence,
                           const std::vector<std::pair<RankStatus, milliseconds>>& others) {
  std::string missing;
  size_t count = 0;
  for (const auto& [other, heard] : others) {
    const bool is_silent = heard > silence;
    if (!is_silent && takes_part(other, own)) continue;
    if (++count > kMostNamed) continue;
    if (count > 1) missing += "; ";
    missing += other.who();
    if (other.host.empty())
      missing += " has not reported at all";
    else if (is_silent)
      missing += " has not been heard of for " + seconds_text(heard) + other.last_operation();
    else
      missing += " does not take part" + other.last_operation() +
                 (other.label.empty() ? ""
                                      : (other.is_inside ? ", entered " : ", left ") +
                                            seconds_text(other.age + heard) + " ago");
  }
  if (count > kMostNamed) missing += detail::concat("; and ", count - kMostNamed, " more ranks");
  const std::string begin = own.label + " has not finished within " + seconds_text(timeout);
  if (count > 0) return begin + ": " + missing;
  return begin +
         ", although all its ranks take part: a network, a device or the machine of one of "
         "them hangs; " +
         own.who() + " noticed it";
}

}  // namespace tendril::dist
