#include <tendril/dist/launch/settle.h>

#include <algorithm>

#include <tendril/core/error.h>
#include <tendril/dist/launch/paradigm.h>
#include <tendril/dist/launch/read_value.h>
#include <tendril/dist/launch/slurm.h>

namespace tendril::launch {
namespace {

constexpr int kDefaultPort = 29500;
constexpr int kLastPort = 65535;
constexpr int64_t kMostProcesses = 1'000'000;

class Settler {
 public:
  Settler(const LaunchConfig& config, const Environment& environment, const Machine& machine)
      : config_(config),
        machine_(machine),
        task_(slurm_task(environment)),
        is_mpi_rank_(environment.contains("OMPI_COMM_WORLD_RANK")),
        mpi_size_(mpi_number(environment, "OMPI_COMM_WORLD_SIZE")),
        mpi_local_size_(mpi_number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE")),
        is_allocation_(environment.contains("SLURM_JOB_NODELIST")) {}

  Run settle() {
    check_values();
    const Choice choice = choose_paradigm(config_);
    run_.paradigm = choice.paradigm;
    settle_device(choice);
    settle_counts(choice);
    settle_starter();
    settle_rendezvous();
    settle_threads();
    if (run_.paradigm == Paradigm::fsdp) check_fsdp(config_, run_);
    if (run_.paradigm == Paradigm::deepspeed) check_deepspeed(config_, run_);
    check_meshes(config_, run_);
    if (!assumed_.empty())
      run_.warnings.push_back("assumed, as nothing says otherwise: " + join(assumed_, ", "));
    return run_;
  }

 private:
  static int64_t mpi_number(const Environment& environment, const char* name) {
    int64_t value = 1;
    const auto found = environment.find(name);
    if (found != environment.end())
      read_value(value, found->second, std::string("[launch] ") + name);
    TENDRIL_CHECK(value >= 1, "[launch] ", name, " must be at least 1; got ", value);
    return value;
  }

  void check_values() const {
    TENDRIL_CHECK(config_.mixed_precision != "fp8",
                  "[launch] mixed_precision fp8 is not in this version; use bf16");
    TENDRIL_CHECK(!(config_.module && config_.no_python),
                  "[launch] --module and --no_python exclude each other; leave out both, programs "
                  "are always started directly");
    TENDRIL_CHECK(config_.num_machines >= 1, "[launch] num_machines must be at least 1; got ",
                  config_.num_machines);
    TENDRIL_CHECK(config_.max_restarts >= 0, "[launch] max_restarts must be at least 0; got ",
                  config_.max_restarts);
    TENDRIL_CHECK(config_.shutdown_timeout >= 0.0 && config_.shutdown_timeout <= 86400.0,
                  "[launch] shutdown_timeout must be between 0 and 86400 seconds; got ",
                  config_.shutdown_timeout);
    const int64_t port = config_.main_process_port.value_or(0);
    TENDRIL_CHECK(port >= 0 && port <= kLastPort,
                  "[launch] main_process_port must be between 0 and 65535; got ", port);
    TENDRIL_CHECK(config_.num_cpu_threads_per_process.value_or(1) >= 1,
                  "[launch] num_cpu_threads_per_process must be at least 1; got ",
                  config_.num_cpu_threads_per_process.value_or(1));
    const int64_t count = config_.num_processes.value_or(1);
    TENDRIL_CHECK(count >= 1 && count <= kMostProcesses,
                  "[launch] num_processes must be between 1 and ", kMostProcesses, "; got ", count,
                  "; it counts the processes of all machines");
  }

  int64_t visible_gpus() const {
    if (config_.gpu_ids == "all") return machine_.gpus;
    const auto ids = static_cast<int64_t>(split(config_.gpu_ids, ',').size());
    return machine_.gpus == 0 ? 0 : ids;
  }

  void settle_device(const Choice& choice) {
    run_.on_cpu = config_.use_cpu || choice.wants_cpu;
    const bool gpus_are_given = config_.launcher == "processes" && !run_.on_cpu;
    if (run_.on_cpu || gpus_are_given || visible_gpus() > 0) return;
    run_.on_cpu = true;
    if (choice.wants_gpus)
      run_.warnings.emplace_back("this machine shows no GPU: the ranks work on its CPUs");
  }

  void settle_counts(const Choice& choice) {
    run_.num_machines = config_.num_machines;
    run_.machine_rank = config_.machine_rank;
    if (config_.num_processes) {
      run_.num_processes = *config_.num_processes;
    } else if (task_) {
      run_.num_processes = task_->size;
    } else if (is_mpi_rank_) {
      run_.num_processes = mpi_size_;
    } else {
      run_.num_processes =
          run_.on_cpu || choice.is_one_process ? 1 : std::max<int64_t>(1, visible_gpus());
      assumed_.push_back("num_processes " + std::to_string(run_.num_processes));
      if (!config_.is_set("mixed_precision")) assumed_.emplace_back("mixed_precision no");
    }
    if (task_ && !config_.is_set("num_machines")) run_.num_machines = task_->num_machines;
    if (task_ && !config_.is_set("machine_rank")) run_.machine_rank = task_->machine_rank;
    TENDRIL_CHECK(!choice.is_one_process || run_.num_processes == 1,
                  "[launch] distributed_type NO is one process; got num_processes ",
                  run_.num_processes, "; use MULTI_GPU or MULTI_CPU");
    TENDRIL_CHECK(!choice.wants_gpus || run_.num_processes >= 2 || task_ || is_mpi_rank_,
                  "[launch] training on several GPUs needs num_processes of at least 2; got ",
                  run_.num_processes);
    TENDRIL_CHECK(!choice.wants_gpus || run_.num_machines > 1 || config_.gpu_ids == "all" ||
                      split(config_.gpu_ids, ',').size() != 1,
                  "[launch] training on several GPUs needs more than one in gpu_ids; got ",
                  config_.gpu_ids);
    TENDRIL_CHECK(run_.machine_rank >= 0 && run_.machine_rank < run_.num_machines,
                  "[launch] machine_rank must be between 0 and num_machines - 1, ",
                  run_.num_machines - 1, "; got ", run_.machine_rank);
  }

  void settle_starter() {
    if (is_rank_already())
      run_.starter = Starter::environment;
    else if (config_.launcher == "mpirun" ||
             (config_.launcher == "auto" && run_.on_cpu && run_.num_processes > 1))
      run_.starter = Starter::mpirun;
    if (run_.starter == Starter::environment) return take_task();

    TENDRIL_CHECK(run_.num_processes % run_.num_machines == 0,
                  "[launch] num_processes must be a multiple of num_machines; got ",
                  run_.num_processes, " on ", run_.num_machines);
    run_.local_processes = run_.num_processes / run_.num_machines;
    run_.first_rank = run_.machine_rank * run_.local_processes;
    if (run_.starter == Starter::mpirun)
      check_mpirun();
    else
      check_processes();
  }

  // One task per rank; with one task per machine each starts the ranks of its machine.
  bool is_rank_already() const {
    if (config_.launcher == "environment") {
      TENDRIL_CHECK(task_ || is_mpi_rank_,
                    "[launch] launcher environment needs a rank to become: start tendril-launch "
                    "with srun or mpirun");
      return true;
    }
    if (config_.launcher != "auto") return false;
    if (is_mpi_rank_) return true;
    if (!task_) return false;
    if (task_->size == run_.num_processes) return true;
    TENDRIL_CHECK(task_->size == run_.num_machines && !run_.on_cpu, "[launch] srun started ",
                  task_->size, " tasks, but num_processes is ", run_.num_processes,
                  "; start one task per process", run_.on_cpu ? "" : ", or one per machine");
    return false;
  }

  void take_task() {
    if (!task_) {  // mpirun, which tells the ranks where they are
      run_.num_processes = mpi_size_;
      run_.local_processes = mpi_local_size_;
      return;
    }
    run_.num_processes = task_->size;
    run_.local_processes = task_->local_size;
    run_.first_rank = task_->rank;
    run_.first_local_rank = task_->local_rank;
  }

  void check_mpirun() const {
    TENDRIL_CHECK(!machine_.mpirun.empty(), "[launch] ", run_.num_processes,
                  " processes on CPUs are started by mpirun, and there is none in PATH; install "
                  "Open MPI (Debian: openmpi-bin), or start tendril-launch with srun");
    TENDRIL_CHECK(run_.machine_rank == 0,
                  "[launch] mpirun starts the ranks of all machines, on machine 0; got "
                  "machine_rank ",
                  run_.machine_rank);
    TENDRIL_CHECK(
        run_.num_machines == 1 || !config_.hosts.empty() || !config_.mpirun_hostfile.empty() ||
            is_allocation_,
        "[launch] ", run_.num_machines,
        " machines need their names on a CPU run, which this is unless a GPU is seen here; give "
        "--hosts or --mpirun_hostfile");
    const size_t hosts = split(config_.hosts, ',').size();
    TENDRIL_CHECK(hosts == 0 || static_cast<int64_t>(hosts) == run_.num_machines,
                  "[launch] hosts must name num_machines machines, ", run_.num_machines, "; got ",
                  config_.hosts);
    TENDRIL_CHECK(hosts == 0 || config_.mpirun_hostfile.empty(),
                  "[launch] hosts and mpirun_hostfile both name the machines; give one");
  }

  void check_processes() const {
    TENDRIL_CHECK(!run_.on_cpu || run_.num_processes == 1,
                  "[launch] launcher processes is for GPUs; use mpirun on CPUs");
    if (run_.on_cpu || config_.launcher == "processes") return;
    TENDRIL_CHECK(run_.local_processes <= visible_gpus(),
                  "[launch] each process needs a GPU of its "
                  "own; got ",
                  run_.local_processes, " processes on this machine and ", visible_gpus(),
                  " GPUs; lower num_processes, or use --use_cpu");
  }

  void settle_rendezvous() {
    if (run_.on_cpu || run_.starter == Starter::mpirun) return;  // MPI does that
    if (run_.starter == Starter::environment) {
      if (!task_) return;
      run_.master_addr =
          config_.main_process_ip.empty() ? task_->first_host : config_.main_process_ip;
      run_.master_port = static_cast<int>(config_.main_process_port.value_or(task_->port));
      TENDRIL_CHECK(!run_.master_addr.empty(),
                    "[launch] Slurm does not say where rank 0 is; give --main_process_ip");
    } else if (run_.num_machines == 1) {
      settle_local_port();
    } else {
      settle_remote_port();
    }
  }

  void settle_local_port() {
    run_.master_addr = config_.main_process_ip.empty() ? "127.0.0.1" : config_.main_process_ip;
    const int wanted = static_cast<int>(config_.main_process_port.value_or(kDefaultPort));
    const bool is_free = wanted != 0 && machine_.is_port_free(wanted);
    run_.master_port = is_free ? wanted : machine_.free_port();
    if (!is_free && wanted != 0)
      run_.warnings.push_back("port " + std::to_string(wanted) + " is in use; taking " +
                              std::to_string(run_.master_port));
  }

  void settle_remote_port() {
    std::string address = config_.main_process_ip;
    std::optional<int64_t> port = config_.main_process_port;
    if (task_ && address.empty()) address = task_->first_host;
    if (task_ && !port) port = task_->port;
    TENDRIL_CHECK(!address.empty() && port.value_or(0) > 0, "[launch] ", run_.num_machines,
                  " machines need main_process_ip and main_process_port, the same on all of them; "
                  "got ",
                  address.empty() ? "no address" : address, " and ",
                  port.value_or(0) > 0 ? "port " + std::to_string(*port) : "no port");
    run_.master_addr = address;
    run_.master_port = static_cast<int>(*port);
    TENDRIL_CHECK(run_.machine_rank != 0 || machine_.is_port_free(run_.master_port),
                  "[launch] port ", run_.master_port,
                  " of this machine, where the ranks are to meet, is in use; choose another "
                  "main_process_port on all machines");
  }

  void settle_threads() {
    const int64_t share = std::max<int64_t>(1, machine_.cores / run_.local_processes);
    run_.threads = config_.num_cpu_threads_per_process.value_or(run_.on_cpu ? share : 1);
  }

  const LaunchConfig& config_;
  const Machine& machine_;
  const std::optional<SlurmTask> task_;
  const bool is_mpi_rank_;
  const int64_t mpi_size_, mpi_local_size_;
  const bool is_allocation_;
  Run run_;
  std::vector<std::string> assumed_;
};

}  // namespace

Run settle(const LaunchConfig& config, const Environment& environment, const Machine& machine) {
  return Settler(config, environment, machine).settle();
}

}  // namespace tendril::launch
