// SPDX-License-Identifier: Apache-2.0
// Beast's one copy of compiled code (BOOST_BEAST_SEPARATE_COMPILATION).
#include <boost/beast/src.hpp>
