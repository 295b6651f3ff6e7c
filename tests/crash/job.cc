#include "tests/crash/job.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "kernels/base/error.h"

namespace longtake::crash {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

void pause_ms(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

// Of /proc/ID/stat: name, state and parent; false when the process is gone.
bool read_stat(pid_t id, std::string& name, char& state, pid_t& parent) {
  std::ifstream file("/proc/" + std::to_string(id) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return false;
  const size_t open = line.find('('), close = line.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return false;
  name = line.substr(open + 1, close - open - 1);
  std::istringstream rest(line.substr(close + 1));
  return static_cast<bool>(rest >> state >> parent);
}

}  // namespace

std::string describe(const Ended& ended) {
  const std::string how = !ended.in_time ? "it hung"
                          : ended.signal ? fmt::format("it died of signal {}", ended.signal)
                                         : fmt::format("it ended with code {}", ended.code);
  return how + "; it said:\n" + ended.text;
}

Job::Job(const Words& command, const Words& variables, const fs::path& log) : log_(log) {
  // Ranks whose mpirun died become children of this process, so that none is forgotten.
  LT_CHECK(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "no subreaper");
  // A killed mpirun leaves megabytes behind: thousands of them fill a memory disk.
  const std::string folder = session_folder().string();
  const std::string session = "OMPI_MCA_orte_tmpdir_base=" + folder;
  const std::string segments = "OMPI_MCA_btl_vader_backing_directory=" + folder;
  fs::create_directories(session_folder());
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  id_ = ::fork();
  LT_CHECK(id_ >= 0, "no process");
  if (id_ > 0) return;
  ::setsid();
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int in = ::open("/dev/null", O_RDONLY);
  ::dup2(in, STDIN_FILENO), ::dup2(out, STDOUT_FILENO), ::dup2(out, STDERR_FILENO);
  ::putenv(const_cast<char*>(session.c_str()));
  ::putenv(const_cast<char*>(segments.c_str()));
  for (const std::string& variable : variables) ::putenv(const_cast<char*>(variable.c_str()));
  ::execvp(argv[0], argv.data());
  ::_exit(126);
}

Job::~Job() {
  kill_all();
  if (!ended_) wait(10);
  std::error_code error;
  fs::remove_all(session_folder(), error);
}

// The job and all that descends from it, or from a part of it that died; also what has ended but
// was not waited for: its other threads may still be ending and hold a lock.
std::vector<pid_t> Job::processes() const {
  std::map<pid_t, pid_t> parents;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string text = entry.path().filename().string();
    if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
      continue;
    std::string name;
    char state = 0;
    pid_t parent = 0;
    const pid_t id = std::stoi(text);
    if (read_stat(id, name, state, parent)) parents[id] = parent;
  }
  std::vector<pid_t> out;
  for (const auto& [id, first] : parents) {
    pid_t up = first;
    while (up > 1 && up != ::getpid() && parents.contains(up)) up = parents[up];
    if (up == ::getpid()) out.push_back(id);
  }
  return out;
}

std::vector<pid_t> Job::ranks() const {
  std::vector<pid_t> out;
  for (const pid_t id : processes()) {
    std::string name;
    char state = 0;
    pid_t parent = 0;
    if (read_stat(id, name, state, parent) && name == "longtake" && state != 'Z') out.push_back(id);
  }
  return out;
}

void Job::reap() {
  int status = 0;
  for (pid_t id = 0; (id = ::waitpid(-1, &status, WNOHANG)) > 0;)
    if (id == id_) status_ = status, ended_ = true;
}

bool Job::running() {
  reap();
  return !ended_;
}

void Job::kill_all() {
  for (std::vector<pid_t> left = processes(); !left.empty(); left = processes()) {
    for (const pid_t id : left) ::kill(id, SIGKILL);
    pause_ms(1);
    reap();
  }
}

Ended Job::wait(double seconds) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  Ended out;
  while (running() && Clock::now() < end) pause_ms(2);
  out.in_time = !running();
  kill_all();
  while (running()) pause_ms(2);
  out.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : -1;
  out.signal = WIFSIGNALED(status_) ? WTERMSIG(status_) : 0;
  std::ifstream file(log_, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  out.text = text.str();
  return out;
}

}  // namespace longtake::crash
