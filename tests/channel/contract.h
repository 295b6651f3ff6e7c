// What every transport must do (parallel/comm/channel.h), seen from one rank of a job of several.
// The same functions run over loopback (threads), over MPI (processes) and between GPUs.
#pragma once

#include <functional>

#include "parallel/comm/channel.h"

namespace longtake::testing {

// Copies between host memory and a channel's buffer, whichever device that is on.
using ChannelCopy =
    std::function<void(const void* from, Device from_device, void* to, Device to_device, size_t)>;
void copy_on_host(const void* from, Device, void* to, Device, size_t bytes);

// Each rank sends 200 messages of changing size and content to the next one in a ring and checks
// those that it receives; returns how many were wrong.
int wrong_messages_in_ring(Transport& transport, const ChannelCopy& copy = copy_on_host);

// Rank 0 sends one message of `bytes` to rank 1, which checks all of it. Returns whether it was
// right (true on other ranks).
bool one_message_arrives(Transport& transport, size_t bytes,
                         const ChannelCopy& copy = copy_on_host);

// Rank 0 sends 5 bytes where rank 1 expects 6: the error that rank 1 got, "" on other ranks.
std::string wrong_size_error(Transport& transport);

// Rank 0 waits for a message of rank 1 that never comes, while the others answer for up to
// `others_s`: the error that rank 0 got, "" on other ranks.
std::string missed_deadline_error(Transport& transport, double others_s);

}  // namespace longtake::testing
