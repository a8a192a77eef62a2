"""THE TABLE: one line per regular procedure, its name on the wire and the method that answers it.

Every row is checked against the IDL at start. What does not fit a row has a handler in
`server/handlers`; what has neither is answered as unsupported.
"""

from virtbackupd.drivers.interface import Domain, Driver
from virtbackupd.server.translate import Method

PROCEDURES: dict[str, Method] = {
    # The node
    "CONNECT_GET_TYPE": Driver.get_type,
    "CONNECT_GET_VERSION": Driver.get_version,
    "CONNECT_GET_LIB_VERSION": Driver.get_lib_version,
    "CONNECT_GET_HOSTNAME": Driver.get_hostname,
    "CONNECT_GET_CAPABILITIES": Driver.get_capabilities,
    "CONNECT_GET_DOMAIN_CAPABILITIES": Driver.get_domain_capabilities,
    "CONNECT_GET_MAX_VCPUS": Driver.get_max_vcpus,
    "NODE_GET_INFO": Driver.node_get_info,
    "NODE_GET_FREE_MEMORY": Driver.node_get_free_memory,
    "NODE_GET_CPU_MAP": Driver.node_get_cpu_map,
    # Finding and defining domains
    "DOMAIN_LOOKUP_BY_ID": Driver.domain_lookup_by_id,
    "DOMAIN_LOOKUP_BY_NAME": Driver.domain_lookup_by_name,
    "DOMAIN_LOOKUP_BY_UUID": Driver.domain_lookup_by_uuid,
    "DOMAIN_DEFINE_XML": Driver.domain_define_xml,
    "DOMAIN_DEFINE_XML_FLAGS": Driver.domain_define_xml_flags,
    # What a domain is
    "DOMAIN_GET_XML_DESC": Domain.get_xml_desc,
    "DOMAIN_GET_STATE": Domain.get_state,
    "DOMAIN_GET_INFO": Domain.get_info,
    "DOMAIN_GET_OS_TYPE": Domain.get_os_type,
    "DOMAIN_GET_MAX_MEMORY": Domain.get_max_memory,
    "DOMAIN_GET_MAX_VCPUS": Domain.get_max_vcpus,
    "DOMAIN_GET_VCPUS_FLAGS": Domain.get_vcpus_flags,
    "DOMAIN_IS_ACTIVE": Domain.is_active,
    "DOMAIN_IS_PERSISTENT": Domain.is_persistent,
    "DOMAIN_IS_UPDATED": Domain.is_updated,
    "DOMAIN_GET_AUTOSTART": Domain.get_autostart,
    "DOMAIN_SET_AUTOSTART": Domain.set_autostart,
    "DOMAIN_GET_METADATA": Domain.get_metadata,
    "DOMAIN_SET_METADATA": Domain.set_metadata,
    # Memory and processors
    "DOMAIN_SET_MAX_MEMORY": Domain.set_max_memory,
    "DOMAIN_SET_MEMORY": Domain.set_memory,
    "DOMAIN_SET_MEMORY_FLAGS": Domain.set_memory_flags,
    "DOMAIN_SET_VCPUS": Domain.set_vcpus,
    "DOMAIN_SET_VCPUS_FLAGS": Domain.set_vcpus_flags,
    "DOMAIN_GET_SCHEDULER_TYPE": Domain.get_scheduler_type,
    "DOMAIN_GET_CONTROL_INFO": Domain.get_control_info,
    # Life cycle
    "DOMAIN_CREATE": Domain.create,
    "DOMAIN_SHUTDOWN": Domain.shutdown,
    "DOMAIN_SHUTDOWN_FLAGS": Domain.shutdown_flags,
    "DOMAIN_REBOOT": Domain.reboot,
    "DOMAIN_RESET": Domain.reset,
    "DOMAIN_SUSPEND": Domain.suspend,
    "DOMAIN_RESUME": Domain.resume,
    "DOMAIN_DESTROY": Domain.destroy,
    "DOMAIN_DESTROY_FLAGS": Domain.destroy_flags,
    "DOMAIN_UNDEFINE": Domain.undefine,
    "DOMAIN_UNDEFINE_FLAGS": Domain.undefine_flags,
    "DOMAIN_RENAME": Domain.rename,
    "DOMAIN_HAS_MANAGED_SAVE_IMAGE": Domain.has_managed_save_image,
    "DOMAIN_MANAGED_SAVE": Domain.managed_save,
    "DOMAIN_MANAGED_SAVE_REMOVE": Domain.managed_save_remove,
    # Devices
    "DOMAIN_ATTACH_DEVICE": Domain.attach_device,
    "DOMAIN_ATTACH_DEVICE_FLAGS": Domain.attach_device_flags,
    "DOMAIN_DETACH_DEVICE": Domain.detach_device,
    "DOMAIN_DETACH_DEVICE_FLAGS": Domain.detach_device_flags,
    "DOMAIN_DETACH_DEVICE_ALIAS": Domain.detach_device_alias,
    "DOMAIN_UPDATE_DEVICE_FLAGS": Domain.update_device_flags,
    # Disks
    "DOMAIN_GET_BLOCK_INFO": Domain.get_block_info,
    "DOMAIN_BLOCK_STATS": Domain.block_stats,
    "DOMAIN_BLOCK_RESIZE": Domain.block_resize,
    "DOMAIN_GET_BLOCK_JOB_INFO": Domain.get_block_job_info,
    "DOMAIN_BLOCK_JOB_ABORT": Domain.block_job_abort,
    "DOMAIN_BLOCK_JOB_SET_SPEED": Domain.block_job_set_speed,
    "DOMAIN_BLOCK_COMMIT": Domain.block_commit,
    "DOMAIN_SET_BLOCK_THRESHOLD": Domain.set_block_threshold,
    # Snapshots
    "DOMAIN_SNAPSHOT_NUM": Domain.snapshot_num,
    "DOMAIN_HAS_CURRENT_SNAPSHOT": Domain.has_current_snapshot,
    "DOMAIN_SNAPSHOT_CREATE_XML": Domain.snapshot_create_xml,
    "DOMAIN_SNAPSHOT_GET_XML_DESC": Domain.snapshot_get_xml_desc,
    "DOMAIN_SNAPSHOT_LOOKUP_BY_NAME": Domain.snapshot_lookup_by_name,
    "DOMAIN_SNAPSHOT_GET_PARENT": Domain.snapshot_get_parent,
    "DOMAIN_SNAPSHOT_CURRENT": Domain.snapshot_current,
    "DOMAIN_SNAPSHOT_IS_CURRENT": Domain.snapshot_is_current,
    "DOMAIN_SNAPSHOT_HAS_METADATA": Domain.snapshot_has_metadata,
    "DOMAIN_SNAPSHOT_NUM_CHILDREN": Domain.snapshot_num_children,
    "DOMAIN_SNAPSHOT_DELETE": Domain.snapshot_delete,
    # Checkpoints
    "DOMAIN_CHECKPOINT_CREATE_XML": Domain.checkpoint_create_xml,
    "DOMAIN_CHECKPOINT_GET_XML_DESC": Domain.checkpoint_get_xml_desc,
    "DOMAIN_CHECKPOINT_LOOKUP_BY_NAME": Domain.checkpoint_lookup_by_name,
    "DOMAIN_CHECKPOINT_GET_PARENT": Domain.checkpoint_get_parent,
    "DOMAIN_CHECKPOINT_DELETE": Domain.checkpoint_delete,
    # Backups and jobs
    "DOMAIN_BACKUP_BEGIN": Domain.backup_begin,
    "DOMAIN_BACKUP_GET_XML_DESC": Domain.backup_get_xml_desc,
    "DOMAIN_GET_JOB_INFO": Domain.get_job_info,
    "DOMAIN_GET_JOB_STATS": Domain.get_job_stats,
    "DOMAIN_ABORT_JOB": Domain.abort_job,
    "DOMAIN_ABORT_JOB_FLAGS": Domain.abort_job_flags,
    # Guest agent and monitor
    "DOMAIN_FSFREEZE": Domain.fsfreeze,
    "DOMAIN_FSTHAW": Domain.fsthaw,
    "DOMAIN_GET_GUEST_INFO": Domain.get_guest_info,
    "DOMAIN_GET_TIME": Domain.get_time,
    "DOMAIN_GET_HOSTNAME": Domain.get_hostname,
    "DOMAIN_GET_MESSAGES": Domain.get_messages,
    "QEMU_DOMAIN_AGENT_COMMAND": Domain.agent_command,
    "QEMU_DOMAIN_MONITOR_COMMAND": Domain.monitor_command,
    # Secrets
    "SECRET_LOOKUP_BY_UUID": Driver.secret_lookup_by_uuid,
    "SECRET_DEFINE_XML": Driver.secret_define_xml,
    "SECRET_GET_XML_DESC": Driver.secret_get_xml_desc,
    "SECRET_SET_VALUE": Driver.secret_set_value,
    "SECRET_GET_VALUE": Driver.secret_get_value,
    "SECRET_UNDEFINE": Driver.secret_undefine,
}

SECURE_FLAGS: dict[str, int] = {
    "DOMAIN_GET_XML_DESC": 1 | 8,
    "DOMAIN_SNAPSHOT_GET_XML_DESC": 1,
    "DOMAIN_GET_VCPUS_FLAGS": 8,
    "DOMAIN_MANAGED_SAVE_GET_XML_DESC": 1,
    "DOMAIN_CHECKPOINT_GET_XML_DESC": 1,
}
"""Calls that a read-only connection may make without these bits of their last argument."""

AGENT_ADDRESSES = "DOMAIN_INTERFACE_ADDRESSES"
"""The one conditional call whose condition is no flag: a read-only client may not ask the agent."""
AGENT_SOURCE = 1
"""VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT."""
