//! What every database must do, run on SQLite and on PostgreSQL.
//!
//! PostgreSQL comes from `ASSAY_TEST_POSTGRES=URL`, which `./test` sets (by hand: `scripts/postgres-for-tests start DIR`
//! prints one). Without it the PostgreSQL half fails, unless `ASSAY_TEST_NO_POSTGRES=1` says that this is intended.

#![expect(clippy::unwrap_used, reason = "a contract test that cannot go on has failed")]

mod assets;
mod database;
mod events;
mod faults;
mod gate;
mod knowledge;
mod lists;
mod outbox;
mod results;
mod rows;

macro_rules! contract {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let database = crate::database::Database::sqlite();
                crate::$module::$name(&database).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(database) = crate::database::Database::postgres(stringify!($name)).await {
                    crate::$module::$name(&database).await;
                    database.remove().await;
                }
            })*
        }
    };
}

contract!(
    events::the_same_message_is_stored_once,
    events::ends_are_in_the_order_of_commits,
    events::what_a_bus_has_lost_is_counted,
    events::what_comes_back_is_news_again,
    events::effects_happen_once,
    events::what_was_only_written_down_is_done_later,
    events::rules_that_fail_are_counted,
    events::effects_that_wait_are_in_nobodys_way,
    outbox::entries_are_told_once_and_in_order,
    outbox::what_is_told_has_the_number_that_was_given,
    rows::an_empty_store,
    rows::a_whole_story_is_loaded_as_it_was,
    rows::everything_outlives_the_process,
    rows::closed_streams_are_kept,
    rows::only_recent_attempts_are_loaded,
    rows::any_text_comes_back_as_it_was,
    rows::clusters_are_loaded_with_what_they_are_bound_to,
    rows::a_post_of_a_product_is_whole,
    rows::lists_among_settings_are_found_by_their_parts,
    lists::filters,
    lists::one_scenario,
    lists::ten_thousand_jobs_in_pages,
    lists::wait_reasons_are_shown,
    lists::builds_of_groups,
    faults::of_two_leaders_the_first_is_deposed,
    faults::a_leader_that_doubts_knows_whether_it_still_leads,
    faults::a_new_job_never_replaces_another,
    faults::a_bad_row_spoils_its_batch_and_nothing_else,
    faults::a_commit_dropped_at_any_moment_is_whole_or_nothing,
    faults::a_killed_process_loses_nothing_it_was_told_is_stored,
    faults::many_open_a_new_database_at_once,
    faults::a_newer_schema_is_refused,
    faults::a_broken_row_is_named,
    faults::lost_connections_are_made_anew,
    gate::what_the_gate_is_made_of,
    gate::items_and_their_history,
    gate::events_are_received_once,
    gate::old_events_are_removed,
    gate::reports_wait_until_they_are_delivered,
    gate::receipts,
    gate::builds_lead_to_jobs,
    knowledge::users_and_their_keys,
    knowledge::the_catalog,
    knowledge::comments_and_events,
    knowledge::bugs_are_kept,
    assets::versions_are_published_whole,
    assets::jobs_keep_the_versions_they_began_with,
    assets::what_a_job_needs_is_not_removed,
    results::results_are_found_by_what_they_say,
    results::what_is_new_is_to_be_decided_about,
    results::the_latest_of_each_kind,
    results::groups_and_test_cases,
    results::results_come_with_a_step_or_not_at_all,
    results::waivers_and_evidence,
    results::decisions_follow_each_other,
);
