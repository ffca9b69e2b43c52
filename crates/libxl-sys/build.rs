//! Generates the bindings from the headers of the release of Xen that dom0 has.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bindgen::Builder;
use bulkhead_templates::tools::Tools;

/// Names another folder with Xen's headers.
const FOLDER: &str = "BULKHEAD_XEN_INCLUDE";

/// What is called of libxl.
const LIBXL: &[&str] = &[
    "libxl_bitmap_set",
    "libxl_childproc_setmode",
    "libxl_cpu_bitmap_alloc",
    "libxl_ctx_(alloc|free)",
    "libxl_defbool_set",
    "libxl_device_disk_(add|dispose|getinfo|init|remove)",
    "libxl_device_nic_(add|dispose|init|remove)",
    "libxl_device_pci_init",
    "libxl_devid_to_device_nic",
    "libxl_diskinfo_(dispose|init)",
    "libxl_domain_build_info_init_type",
    "libxl_domain_config_(dispose|init)",
    "libxl_domain_(create_new|destroy|info|need_memory|pause|shutdown|unpause)",
    "libxl_dominfo_(dispose|init|list_free)",
    "libxl_domid_to_name",
    "libxl_ev(dis|en)able_domain_death",
    "libxl_event_(free|wait)",
    "libxl_get_(free_memory|physinfo|version_info)",
    "libxl_list_domain",
    "libxl_physinfo_(dispose|init)",
    "libxl_domain_sched_params_(dispose|init|set)",
    "libxl_set_(memory_target|vcpuonline)",
    "libxl_bitmap_(dispose|init)",
    "libxl_vdev_to_device_disk",
];

/// What is called of xenstore's library.
const XENSTORE: &[&str] = &["xs_(close|directory|open|read|rm|write)"];

fn main() -> Result<()> {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    println!("cargo::rerun-if-changed=build.rs");
    let include = include()?;
    println!("cargo::rerun-if-changed={}", include.display());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    let libxl = bindings(&include, "libxl.h", "Libxl", LIBXL).header_contents(
        "more.h",
        "#include <libxl_event.h>\n#include <libxl_utils.h>\n",
    );
    write(libxl, &out.join("libxl.rs"))?;
    let xenstore = bindings(&include, "xenstore.h", "Libxenstore", XENSTORE);
    write(xenstore, &out.join("xenstore.rs"))
}

/// The folder of the headers: told, or where `cargo xtask setup` has put them.
fn include() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Ok(folder.into());
    }
    let tools = Tools::kept()?.with_context(|| {
        format!(
            "the headers of Xen are not there; run `cargo xtask setup`, which fetches them, or set \
             {FOLDER} to a folder with those of libxen-dev 4.20"
        )
    })?;
    Ok(tools.path("usr/include"))
}

fn bindings(include: &Path, header: &str, library: &str, functions: &[&str]) -> Builder {
    let all = Builder::default()
        .header(include.join(header).display().to_string())
        .clang_arg(format!("-isystem{}", include.display()))
        .dynamic_library_name(library)
        .dynamic_link_require_all(true)
        .allowlist_recursively(true)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_debug(false)
        .layout_tests(true)
        .wrap_unsafe_ops(true)
        .generate_comments(false);
    functions
        .iter()
        .fold(all, |all, function| all.allowlist_function(function))
}

fn write(builder: Builder, to: &Path) -> Result<()> {
    let bindings = builder.generate().context(
        "the bindings cannot be generated; `cargo xtask setup` installs what that needs",
    )?;
    Ok(bindings.write_to_file(to)?)
}
