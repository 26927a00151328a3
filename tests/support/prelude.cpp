// SPDX-License-Identifier: MIT
// Belongs to the target that compiles the headers nearly every test includes.
