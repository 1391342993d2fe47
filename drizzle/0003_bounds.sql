CREATE TABLE "mail_quotas" (
	"recipient" "bytea" NOT NULL,
	"kind" text NOT NULL,
	"begun_at" timestamp with time zone DEFAULT now() NOT NULL,
	"count" integer DEFAULT 1 NOT NULL,
	CONSTRAINT "mail_quotas_recipient_kind_pk" PRIMARY KEY("recipient","kind")
);
--> statement-breakpoint
ALTER TABLE "users" DROP CONSTRAINT "users_have_a_login_name";--> statement-breakpoint
ALTER TABLE "outbox" ADD COLUMN "claim" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "late_generation" integer;--> statement-breakpoint
ALTER TABLE "sessions" ADD COLUMN "late_count" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "users" ADD COLUMN "sessions_ended_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "users" ADD COLUMN "deleted_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "mail_quotas_begun_at_idx" ON "mail_quotas" USING btree ("begun_at");--> statement-breakpoint
CREATE INDEX "sessions_live_idx" ON "sessions" USING btree ("user_id","epoch","created_at") WHERE "sessions"."revoked_at" is null;--> statement-breakpoint
CREATE INDEX "users_sessions_ended_at_idx" ON "users" USING btree ("sessions_ended_at") WHERE "users"."sessions_ended_at" is not null;--> statement-breakpoint
CREATE INDEX "users_deleted_at_idx" ON "users" USING btree ("deleted_at") WHERE "users"."deleted_at" is not null;--> statement-breakpoint
ALTER TABLE "users" ADD CONSTRAINT "users_have_a_login_name" CHECK ("users"."email" is not null or "users"."username" is not null or "users"."deleted_at" is not null);