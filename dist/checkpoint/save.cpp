// save_sharded(): agree on who writes what, write, agree that all is written, publish.
//
// At every instant the folder is the old checkpoint or the new one: ranks write files that the old
// manifest does not name, and when all have, rank 0 puts the new manifest in its place.
#include <algorithm>
#include <functional>
#include <optional>
#include <system_error>

#include <tendril/core/error.h>
#include <tendril/core/json.h>
#include <tendril/core/safetensors_writer.h>
#include <tendril/dist/checkpoint/manifest.h>
#include <tendril/dist/checkpoint/row_plan.h>
#include <tendril/dist/checkpoint/shard_folder.h>
#include <tendril/dist/checkpoint/shard_name.h>

namespace tendril::dist {
namespace fs = std::filesystem;
namespace {

struct Answers {
  std::vector<std::string> texts;  // by rank
  std::string fault;               // of the first rank whose body threw; the same on all ranks

  const Answers& or_fail() const {
    TENDRIL_CHECK(fault.empty(), "[save_sharded] ", fault);
    return *this;
  }
};

// What body() returns on every rank. A rank where it throws still takes part, so that all learn of
// it and none waits.
Answers exchange(ProcessGroup& group, const std::function<std::string()>& body) {
  std::string mine = "+";
  try {
    mine += body();
  } catch (const std::exception& error) {
    mine = std::string("-") + error.what();
  }
  Answers answers;
  for (const std::string& text : group.all_gather_text(mine)) {
    if (text.starts_with('-') && answers.fault.empty())
      answers.fault = "rank " + std::to_string(answers.texts.size()) + ": " + text.substr(1);
    answers.texts.push_back(text.substr(1));
  }
  return answers;
}

// The manifest, whose files are known when they have been written, and their names by rank.
struct Plan {
  shards::Manifest manifest;
  std::vector<std::string> files;
};

Plan agree(ProcessGroup& group, const fs::path& folder, const std::vector<ShardedTensor>& tensors,
           const std::map<std::string, std::string>& metadata) {
  const Answers described = exchange(group, [&] {
    for (const auto& [key, value] : metadata) json_quote(key + value);  // Error unless UTF-8
    return shards::describe_rows(tensors);
  });
  described.or_fail();
  const Answers prepared = exchange(group, [&] {
    return group.rank() == 0 ? std::to_string(shards::prepare_folder(folder)) : "";
  });
  const int64_t save = std::stoll(prepared.or_fail().texts[0]);
  Plan plan;
  for (int rank = 0; rank < group.size(); ++rank)
    plan.files.push_back(shards::shard_name(rank, group.size(), save));
  plan.manifest.metadata = metadata;
  plan.manifest.tensors = shards::plan_rows(described.texts, plan.files);
  return plan;
}

// Of the tensors of this rank those that its file holds.
std::map<std::string, Tensor> own_tensors(const Plan& plan, const std::string& file,
                                          const std::vector<ShardedTensor>& tensors) {
  std::map<std::string, Tensor> own;
  for (const ShardedTensor& tensor : tensors) {
    const auto& pieces = plan.manifest.tensors.at(tensor.name).rows;
    const bool is_own = std::any_of(pieces.begin(), pieces.end(),
                                    [&](const auto& rows) { return rows.file == file; });
    if (is_own) own.emplace(tensor.name, tensor.local);
  }
  return own;
}

// What was written, as text for rank 0: bytes and checksum, or nothing for a rank without rows.
std::string write_shard(const fs::path& path, const std::map<std::string, Tensor>& tensors) {
  if (tensors.empty()) return "[]";
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& [name, tensor] : tensors)
    entries.push_back({name, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(path.string(), std::move(entries));
  for (const auto& entry : writer.entries()) writer.write(tensors.at(entry.name));
  writer.commit();
  return Json(Json::Array{writer.bytes(), static_cast<int64_t>(writer.crc32c())}).dump();
}

std::map<std::string, shards::FileRecord> records(const Answers& written,
                                                  const std::vector<std::string>& files) {
  std::map<std::string, shards::FileRecord> result;
  for (size_t rank = 0; rank < files.size(); ++rank) {
    const Json record = Json::parse(written.texts[rank], "rank " + std::to_string(rank));
    if (record.items().empty()) continue;
    result[files[rank]] = {record.items()[0].as_int(),
                           static_cast<uint32_t>(record.items()[1].as_int())};
  }
  return result;
}

void remove_file(const fs::path& path) {
  std::error_code ignored;  // without a manifest it means nothing; the next save tries again
  fs::remove(path, ignored);
}

}  // namespace

void save_sharded(ProcessGroup& group, const fs::path& folder,
                  const std::vector<ShardedTensor>& tensors,
                  const std::map<std::string, std::string>& metadata) {
  Plan plan = agree(group, folder, tensors, metadata);
  const std::string& own = plan.files[static_cast<size_t>(group.rank())];
  // When the exchange itself fails, other ranks may have got its answers, and rank 0 may publish:
  // what was written must stay then.
  const Answers written =
      exchange(group, [&] { return write_shard(folder / own, own_tensors(plan, own, tensors)); });
  if (!written.fault.empty()) remove_file(folder / own);
  plan.manifest.files = records(written.or_fail(), plan.files);
  exchange(group, [&] {
    if (group.rank() != 0) return "";
    try {
      shards::publish(folder, plan.manifest);
    } catch (...) {
      if (!shards::is_published(folder, plan.manifest))
        for (const std::string& file : plan.files) remove_file(folder / file);
      throw;
    }
    return "";
  }).or_fail();
}

}  // namespace tendril::dist
