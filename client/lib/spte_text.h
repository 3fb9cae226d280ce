// Page-table entries in the words of a table.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_SPTE_TEXT_H_
#define CLIENT_LIB_SPTE_TEXT_H_

#include <cstdint>
#include <string>

#include "client/lib/address.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

// Frames that one entry covers; 0 for a level that there is not.
uint64_t FramesPerEntry(v1::PageLevel level);
// The frames that an entry covers.
FrameRange FramesOf(const v1::Spte& spte);

// "none", "frozen", "table" or "leaf".
std::string StateText(const v1::Spte& spte);
// "rw", "r-" or "--".
std::string AccessText(const v1::Access& access);
// The access of a leaf, else "".
std::string LeafAccessText(const v1::Spte& spte);
// The backing frame of a leaf in hexadecimal, else "".
std::string LeafPfnText(const v1::Spte& spte);
// The bits that are set in a leaf: "A D HW MW", for Accessed, Dirty,
// host-writable and MMU-writable; else "".
std::string LeafBitsText(const v1::Spte& spte);

}  // namespace tdp::client

#endif  // CLIENT_LIB_SPTE_TEXT_H_
