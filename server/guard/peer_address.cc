#include "server/guard/peer_address.h"

#include <endian.h>

#include <cstring>

namespace tdp::server {
namespace {

constexpr uint64_t kDiscardPrefix = uint64_t{0x0100} << 48;

enum Kind : uint64_t { kProcess = 1, kUser, kIpv4, kIpv6 };

uint64_t HalfOf(const in6_addr& address, int half) {
  uint64_t value;
  memcpy(&value, address.s6_addr + 8 * half, sizeof(value));
  return be64toh(value);
}

}  // namespace

sockaddr_in6 AddressOfConnection(uint64_t number) {
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  const uint64_t halves[2] = {htobe64(kDiscardPrefix), htobe64(number)};
  memcpy(address.sin6_addr.s6_addr, halves, sizeof(halves));
  return address;
}

uint64_t ConnectionNumberOf(const in6_addr& address) {
  return HalfOf(address, 0) == kDiscardPrefix ? HalfOf(address, 1) : 0;
}

PeerKey PeerKey::OfProcess(pid_t pid) {
  return {kProcess, static_cast<uint64_t>(pid)};
}

PeerKey PeerKey::OfUser(uid_t uid) { return {kUser, uid}; }

PeerKey PeerKey::OfAddress(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    sockaddr_in ipv4;
    memcpy(&ipv4, &address, sizeof(ipv4));
    return {kIpv4, ntohl(ipv4.sin_addr.s_addr)};
  }
  sockaddr_in6 ipv6;
  memcpy(&ipv6, &address, sizeof(ipv6));
  if (IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr)) {
    return {kIpv4, HalfOf(ipv6.sin6_addr, 1) & 0xffffffff};
  }
  return {kIpv6, HalfOf(ipv6.sin6_addr, 0)};
}

}  // namespace tdp::server
